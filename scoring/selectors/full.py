"""Every usable sample: the ceiling of a comparison, and the cost that a coreset saves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order
from scoring.selectors.base import Reference, ScoreShard, Selection, SelectionParams, Shards, survey
from scoring.selectors.plain import draw_lowest, no_score, plain_report


class FullSelector:
    """Takes all samples that are ok, whatever `size` says; so it holds all of them."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sees_validation = False

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Two passes over the shards. Raises TooFewSamplesError."""
        counts = survey(shards, self.scores)

        def ranking(shard: ScoreShard) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
            return draw_order(shard.sample_id, params.seed), no_score(len(shard.sample_id))

        rows = draw_lowest(shards, self.scores, counts.usable, ranking)
        return Selection.of(rows, plain_report(params, counts, counts.usable, len(rows)))
