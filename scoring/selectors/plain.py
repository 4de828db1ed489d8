"""What the selectors without strata have in common: one draw by keys over all usable samples, and its report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows, StratifiedDraw
from scoring.selectors.base import ScoreShard, SelectionParams, Shards, Survey, usable_rows

Ranking = Callable[[ScoreShard], tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]]
"""The key uint64 [N] and the score float32 [N] of each sample of a shard; the lowest keys are drawn."""


def draw_lowest(shards: Shards, scores: tuple[str, ...], budget: int, ranking: Ranking) -> Rows:
    """The `budget` usable samples with the lowest keys. One pass; holds twice the budget and a shard."""
    draw = StratifiedDraw(np.array([budget]))
    for shard in shards():
        usable = shard.take(np.flatnonzero(usable_rows(shard, scores)))
        key, score = ranking(usable)
        whole = np.zeros(len(key), dtype=np.int32)
        draw.offer(Rows(key, whole, usable.sample_id, usable.influence, usable.effort, score))
    return draw.result()


def plain_report(params: SelectionParams, counts: Survey, asked: int, chosen: int, **facts: Any) -> dict[str, Any]:
    """The report of a selection without strata; `facts` are the method's own."""
    warnings = []
    if asked > counts.usable:
        warnings.append(f"{asked:,} samples were asked for; all {counts.usable:,} usable ones are taken")
    return {
        "method": params.method,
        "seed": params.seed,
        "size": params.size,
        **facts,
        **counts.facts(),
        "budget": asked,
        "chosen": chosen,
        "warnings": [*warnings, *facts.get("warnings", ())],
    }


def no_score(samples: int) -> npt.NDArray[np.float32]:
    """NaN for each sample: the method has no score."""
    return np.full(samples, np.nan, dtype=np.float32)
