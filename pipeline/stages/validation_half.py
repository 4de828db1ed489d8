"""Whether a selection looks at a reference period, and at which half of it, so that the other can choose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.engine.config import SelectConfig
from scoring.ids import draw_order
from scoring.selection import selector

_SEED = 0x48414C46


def aimed_influence(section: SelectConfig) -> bool:
    """Whether the selection reads the influence on the risk of the reference period, in place of the stage's."""
    return section.influence == "reference" and "influence" in selector(section.method).scores


def needs_reference(section: SelectConfig) -> bool:
    """Whether the selection looks at a reference period, itself or by its influence."""
    return selector(section.method).sees_validation or aimed_influence(section)


def aims_at_validation(section: SelectConfig) -> bool:
    """Whether the selection looks at validation users."""
    return needs_reference(section) and section.reference == "valid"


def aimed_at(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool [U], for the sample ids of validation users."""
    return draw_order(sample_id, _SEED) < np.uint64(1 << 63)


def not_aimed_at(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool [U], those who choose among selections and stop the tuning on them."""
    return ~aimed_at(sample_id)
