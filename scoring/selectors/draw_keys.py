"""How the scores of a selector become a draw: keys of which the lowest are taken."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows
from scoring.ids import draw_order
from scoring.order_statistics import double_keys
from scoring.selectors.score_shard import ScoreShard
from scoring.weighted import highest_keys, weighted_keys

Draw = Literal["highest", "uniform", "proportional", "log_proportional"]
Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]

#: By the score downwards, equal ones by chance; by chance alone; in proportion to the score; to its exponential.
DRAWS: tuple[Draw, ...] = ("highest", "uniform", "proportional", "log_proportional")


def keyed_rows(shard: ScoreShard, score: Scores, draw: Draw, seed: int) -> Rows:
    """Key the samples [N] of a shard with their scores [N] for a draw by a hash of (sample id, seed).

    Scores of 64 bits order the draw by all of them; the rows keep them as float32.
    """
    with np.errstate(over="ignore"):
        kept = score.astype(np.float32)
    key, tie = _keys(shard.sample_id, score, draw, seed)
    whole = np.zeros(len(key), dtype=np.int32)
    return Rows(key, whole, shard.sample_id, shard.influence, shard.effort, kept, tie)


def _keys(
    sample_id: npt.NDArray[np.int64], score: Scores, draw: Draw, seed: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64] | None]:
    """Return the keys, and what breaks ties among them if their bits cannot."""
    if draw == "uniform":
        return draw_order(sample_id, seed), None
    if draw == "highest" and score.dtype == np.float32:
        return highest_keys(sample_id, score.astype(np.float32), seed), None
    wide = score.astype(np.float64)
    if draw == "highest":
        return ~double_keys(wide), draw_order(sample_id, seed)
    return weighted_keys(sample_id, wide if draw == "proportional" else np.exp(wide), seed), None
