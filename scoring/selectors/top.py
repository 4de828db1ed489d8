"""The highest scores alone: the rule that coverage improves on."""

from __future__ import annotations

from scoring.selectors.base import LogView, Rows, Scores, ScoreShard, Selector
from scoring.selectors.combined import Scorer
from scoring.selectors.selector_settings import TopSettings


class TopSelector(Selector):
    """Takes the highest influence + λ · effort, both normalised as in DEALRec; equal ones by the draw."""

    scores = ("influence", "effort")
    Settings = TopSettings
    settings: TopSettings

    def fit(self, log: LogView) -> None:
        """Fit the normalisation."""
        weights = {"influence": 1.0, "effort": self.settings.lambda_}
        self._scorer = Scorer.fit(log.shards, log.counts, self.settings.normalise, weights)

    def rank(self, shard: ScoreShard) -> Scores:
        return self._scorer(shard)

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        ranges = {"method": self.settings.normalise, **log.counts.ranges()}
        return {"lambda": self.settings.lambda_, "normalise": ranges}
