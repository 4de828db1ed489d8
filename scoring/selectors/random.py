"""A uniform draw: the control of every comparison, and the fallback that needs no scores."""

from __future__ import annotations

import numpy as np

from scoring.draw import Rows, StratifiedDraw
from scoring.ids import draw_order
from scoring.selectors.base import Selection, SelectionParams, Shards, asked_size, survey, usable_rows


class RandomSelector:
    """Draws from the samples that are ok, whatever their scores."""

    scores: tuple[str, ...] = ()
    sees_validation = False

    def select(self, shards: Shards, params: SelectionParams) -> Selection:
        """Two passes over the shards. Raises TooFewSamplesError."""
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        draw = StratifiedDraw(np.array([min(asked, counts.usable)]))
        for shard in shards():
            usable = usable_rows(shard, self.scores)
            ids = shard.sample_id[usable]
            draw.offer(
                Rows(
                    key=draw_order(ids, params.seed),
                    stratum=np.zeros(len(ids), dtype=np.int32),
                    sample_id=ids,
                    influence=shard.influence[usable],
                    effort=shard.effort[usable],
                    score=np.full(len(ids), np.nan, dtype=np.float32),
                )
            )
        rows = draw.result()
        warnings = []
        if asked > counts.usable:
            warnings.append(f"{asked:,} samples were asked for; all {counts.usable:,} usable ones are taken")
        report = {
            "method": params.method,
            "seed": params.seed,
            "size": params.size,
            **counts.facts(),
            "budget": asked,
            "chosen": len(rows),
            "warnings": warnings,
        }
        return Selection.of(rows, report)
