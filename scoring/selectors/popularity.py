"""Coverage of popularity: strata by how often train samples have the target, in equal widths of its logarithm.

A blind baseline that needs no model: popular and rare targets get a like share of the coreset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from scoring.counts import Tally
from scoring.selectors.base import ScoreShard
from scoring.selectors.coverage import CoverageSelector
from scoring.selectors.score_shard import Shards
from scoring.selectors.selector_settings import CoverageSettings, StrataSettings


class PopularitySelector(CoverageSelector):
    """Coverage over ln(train samples with the target), without a hard prune."""

    features = ("target",)
    one_scale = True
    Settings = StrataSettings

    def rule(self) -> CoverageSettings:
        return CoverageSettings(strata=self.settings.strata, hard_prune=0.0)

    def derived(self, shards: Shards) -> tuple[Shards, tuple[str, ...]]:
        """Add the popularity of each sample, counted in one more pass that holds a count an item."""
        counts = Tally()
        for shard in shards():
            assert shard.target is not None
            counts.add(shard.target)

        def with_popularity() -> Iterator[ScoreShard]:
            for shard in shards():
                assert shard.target is not None
                yield replace(shard, columns={"popularity": np.log(counts.of(shard.target)).astype(np.float32)})

        return with_popularity, ("popularity",)
