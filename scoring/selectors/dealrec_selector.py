"""DEALRec's selection: normalised influence plus λ times effort, hard prune, coverage over score strata.

Lin et al., "Data-efficient Fine-tuning for LLM-based Recommendation", SIGIR 2024, §3.3. With influence on the
validation risk and `sampling: proportional` it is the same two scores, aimed and drawn in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping

from scoring.selectors.base import LogView, Rows
from scoring.selectors.coverage import CoverageSelector
from scoring.selectors.selector_settings import DealrecSettings


class DealrecSelector(CoverageSelector):
    """Covers the range of influence + λ · effort."""

    scores = ("influence", "effort")
    Settings = DealrecSettings
    settings: DealrecSettings

    def weights(self, scores: tuple[str, ...]) -> Mapping[str, float]:
        return {"influence": 1.0, "effort": self.settings.lambda_}

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        return {"lambda": self.settings.lambda_, **super().facts(log, chosen)}
