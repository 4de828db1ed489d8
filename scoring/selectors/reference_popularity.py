"""Train samples in proportion to how often the reference period has their target.

The simplest aim there is: what was chosen most lately. It knows nothing of histories.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.counts import Tally
from scoring.reference import Reference, required_reference
from scoring.selectors.base import (
    ScoreShard,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    survey,
)
from scoring.selectors.plain import draw_lowest, plain_report
from scoring.weighted import weighted_keys


class ReferencePopularitySelector:
    """The score, and the weight of the draw, is the number of reference samples with the target."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ("target",)
    sees_validation = True

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Two passes over the shards, one over the reference; holds a count an item.

        Raises TooFewSamplesError, and SettingError without a reference.
        """
        reference = required_reference(reference, params.method)
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        popularity = Tally()
        for part in reference.shards():
            popularity.add(part.target)

        def ranking(shard: ScoreShard) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
            assert shard.target is not None
            weight = popularity.of(shard.target)
            return weighted_keys(shard.sample_id, weight.astype(np.float64), params.seed), weight.astype(np.float32)

        rows = draw_lowest(shards, self.scores, min(asked, counts.usable), ranking)
        unwanted = int(np.count_nonzero(rows.score == 0))
        warnings = []
        if unwanted:
            warnings.append(f"{unwanted:,} chosen samples have a target that the reference period lacks")
        report = plain_report(params, counts, asked, len(rows), reference_samples=reference.samples, warnings=warnings)
        return Selection.of(rows, report)
