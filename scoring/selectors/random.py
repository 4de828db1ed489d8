"""A uniform draw: the control of every comparison, and the fallback that needs no scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order
from scoring.selectors.base import (
    Reference,
    ScoreShard,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    survey,
)
from scoring.selectors.plain import draw_lowest, no_score, plain_report


class RandomSelector:
    """Draws from the samples that are ok, whatever their scores."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sees_validation = False

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Two passes over the shards. Raises TooFewSamplesError."""
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)

        def ranking(shard: ScoreShard) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
            return draw_order(shard.sample_id, params.seed), no_score(len(shard.sample_id))

        rows = draw_lowest(shards, self.scores, min(asked, counts.usable), ranking)
        return Selection.of(rows, plain_report(params, counts, asked, len(rows)))
