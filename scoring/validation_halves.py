"""The two halves of the validation users: aimed selections look at one, and the other chooses among selections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order

_SEED = 0x48414C46


def in_aimed_half(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark the validation users, by their sample ids, that aimed selections look at: bool [U]."""
    return draw_order(sample_id, _SEED) < np.uint64(1 << 63)


def in_choosing_half(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark the validation users that choose among selections and stop the tuning: bool [U]."""
    return ~in_aimed_half(sample_id)
