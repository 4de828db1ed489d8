"""Keys for drawing without replacement in proportion to weights, or from the highest score down.

`scoring.draw.StratifiedDraw` keeps the lowest keys, so these draws stream like the uniform one.
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
    """Return keys of which the k smallest are a draw of k without replacement in proportion to the weights.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97, 2006: with
    u uniform, the largest u^(1/w) win. Here these are the smallest −ln(u) / w, and u is a hash of (sample id, seed).
    This equals drawing samples one by one, each time in proportion among those that are left.

    Parameters
    ----------
    sample_id : int64 [N].
    weights : float64 [N], non-negative; samples of weight 0 come last, in uniformly random order.

    Returns
    -------
    uint64 [N].
    """
    order = draw_order(sample_id, seed)
    uniform = ((order >> _SPARE).astype(np.float64) + 0.5) * 2.0**-52
    waiting = np.full(len(order), np.inf)
    np.divide(-np.log(uniform), weights, out=waiting, where=weights > 0)
    # The bits of non-negative floats sort like the floats, and the fraction bits of infinity are free for an order.
    keys = waiting.view(np.uint64)
    return np.where(np.isfinite(waiting), keys, keys + (order >> _SPARE))


def highest_keys(sample_id: npt.NDArray[np.int64], score: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.uint64]:
    """Return keys of which the k smallest have the k highest scores [N]; ties are in the order of the uniform draw."""
    falling = (~float_keys(score)).astype(np.uint64) << np.uint64(32)
    return falling | (draw_order(sample_id, seed) >> np.uint64(32))
