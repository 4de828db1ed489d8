"""Every usable sample: the ceiling of a comparison, and the cost that a coreset saves."""

from __future__ import annotations

from scoring.selectors.base import ScoreSurvey
from scoring.selectors.random import RandomSelector


class FullSelector(RandomSelector):
    """Takes all samples that are ok, whatever `size` says; so it holds all of them."""

    def asked(self, size: float, counts: ScoreSurvey) -> int:
        return counts.usable
