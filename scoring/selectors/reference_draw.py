"""Samples of the reference period itself: the control that any aimed selector must face.

Not a coreset of the train samples: it shows what as many of the samples that the others aim at would teach.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scoring.selectors.base import LogView, Rows, ScoreShard
from scoring.selectors.random import RandomSelector


class ReferenceSelector(RandomSelector):
    """Draws uniformly from the reference as many samples as the others take from train."""

    sees_validation = True

    def samples(self, log: LogView) -> Iterator[ScoreShard]:
        for part in log.reference.shards():
            none = np.full(len(part), np.nan, dtype=np.float32)
            yield ScoreShard(part.sample_id, none, none, np.ones(len(part), dtype=np.bool_))

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        return {"reference_samples": log.reference.samples}

    def warnings(self, log: LogView, chosen: Rows) -> list[str]:
        found, there = super().warnings(log, chosen), log.reference.samples
        if log.asked > there:
            found.append(f"{log.asked:,} samples were asked for; the reference period has {there:,}")
        return found
