"""A uniform draw: the control of every comparison, and the fallback that needs no scores."""

from __future__ import annotations

from scoring.selectors.base import Scores, ScoreShard, Selector, no_score


class RandomSelector(Selector):
    """Draws from the samples that are ok, whatever their scores."""

    draw = "uniform"

    def rank(self, shard: ScoreShard) -> Scores:
        return no_score(shard)
