"""The two halves of the validation users: aimed selections look at one, and the other chooses among selections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order

_SEED = 0x48414C46


def aimed_at(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool [U], for the sample ids of validation users."""
    return draw_order(sample_id, _SEED) < np.uint64(1 << 63)


def not_aimed_at(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool [U], those who choose among selections and stop the tuning on them."""
    return ~aimed_at(sample_id)
