"""Whether a selection looks at validation users, and at which half, so that the other can choose among methods."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.config import SelectConfig
from scoring.ids import draw_order
from scoring.selection import selector

_SEED = 0x48414C46


def aims_at_validation(section: SelectConfig) -> bool:
    """Whether the method looks at validation users."""
    return selector(section.method).sees_validation and section.reference == "valid"


def aimed_at(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool [U], for the sample ids of validation users."""
    return draw_order(sample_id, _SEED) < np.uint64(1 << 63)
