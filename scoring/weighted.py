"""Drawing without replacement in proportion to weights, or from the highest score down, by keys alone.

Each is a key to which `scoring.draw.StratifiedDraw` can keep the lowest, so that it streams like the uniform draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order
from scoring.order_statistics import float_keys

_SPARE = np.uint64(12)  # bits of a key beyond the 52 of a float64's fraction


def weighted_keys(
    sample_id: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.uint64]:
    """Keys of which the k smallest are a draw of k in proportion to the weights, without replacement.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97, 2006:
    with u uniform, the largest u^(1/w) win; here as the smallest −ln(u) / w, and u is a hash of (sample id, seed).
    It is the same as drawing one after another, each time in proportion among those that are left.

    Parameters
    ----------
    sample_id : int64 [N].
    weights : float64 [N], 0 or more; samples of weight 0 come last, in a uniform order.

    Returns
    -------
    uint64 [N].
    """
    order = draw_order(sample_id, seed)
    uniform = ((order >> _SPARE).astype(np.float64) + 0.5) * 2.0**-52
    waiting = np.full(len(order), np.inf)
    np.divide(-np.log(uniform), weights, out=waiting, where=weights > 0)
    # The bits of floats that are not negative sort like the floats; the fraction of infinity is free for an order.
    keys = waiting.view(np.uint64)
    return np.where(np.isfinite(waiting), keys, keys + (order >> _SPARE))


def highest_keys(sample_id: npt.NDArray[np.int64], score: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.uint64]:
    """Keys of which the k smallest have the k highest scores [N]; equal scores are in the order of the draw."""
    falling = (~float_keys(score)).astype(np.uint64) << np.uint64(32)
    return falling | (draw_order(sample_id, seed) >> np.uint64(32))
