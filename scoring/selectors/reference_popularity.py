"""Train samples in proportion to how often the reference period has their target.

The simplest aim: what was chosen most often of late. It ignores histories.
"""

from __future__ import annotations

import numpy as np

from scoring.counts import Tally
from scoring.selectors.base import LogView, Rows, Scores, ScoreShard, Selector


class ReferencePopularitySelector(Selector):
    """The score, and the weight of the draw, is the number of reference samples with the target."""

    features = ("target",)
    sees_validation = True
    draw = "proportional"

    def fit(self, log: LogView) -> None:
        """Count the items in one pass over the reference, which holds a count an item."""
        self._popularity = Tally()
        for part in log.reference.shards():
            self._popularity.add(part.target)

    def rank(self, shard: ScoreShard) -> Scores:
        assert shard.target is not None
        return self._popularity.of(shard.target).astype(np.float64)

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        return {"reference_samples": log.reference.samples}

    def warnings(self, log: LogView, chosen: Rows) -> list[str]:
        unwanted = int(np.count_nonzero(chosen.score == 0))
        found = super().warnings(log, chosen)
        if unwanted:
            found.append(f"{unwanted:,} chosen samples have a target that the reference period lacks")
        return found
