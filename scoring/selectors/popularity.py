"""Coverage of popularity: strata by how often train samples have the target, in equal widths of its logarithm.

A blind baseline that needs no model: popular and rare targets get a like share of the coreset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from scoring.counts import Tally
from scoring.selectors.base import Reference, ScoreShard, Selection, SelectionParams, Shards
from scoring.selectors.coverage import CoverageSelector

_COVERAGE = CoverageSelector(("popularity",), one_scale=True)


class PopularitySelector:
    """Coverage over ln(train samples with the target), without a hard prune."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ("target",)
    sees_validation = False

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Six passes over the shards; holds a count an item. Raises TooFewSamplesError."""
        counts = Tally()
        for shard in shards():
            assert shard.target is not None
            counts.add(shard.target)

        def with_popularity() -> Iterator[ScoreShard]:
            for shard in shards():
                assert shard.target is not None
                popularity = np.log(counts.of(shard.target)).astype(np.float32)
                yield replace(shard, columns={"popularity": popularity})

        plain = replace(params, hard_prune=0.0, normalise="minmax", sampling="strata")
        return _COVERAGE.select(with_popularity, plain)
