"""Targets that a user has chosen before: `evaluate.mask_seen` takes them out of the ranking."""

from __future__ import annotations

import numpy as np

from scoring.ragged import Ragged

#: Above this share of repeated targets, the metrics mostly show that repeats are masked.
MOST = 0.5


def repeated_targets(targets: Ragged, seen: Ragged) -> int:
    """Count the targets, over all users, among the items that the same user has seen."""
    both = np.concatenate([targets.values, seen.values]).astype(np.int64)
    rows = np.concatenate([targets.row_of_value(), seen.row_of_value()])
    keys = rows * (int(both.max(initial=0)) + 1) + both
    count = len(targets.values)
    return int(np.isin(keys[:count], keys[count:]).sum())


def masking_notice(repeated: int, targets: int, of_whom: str) -> str | None:
    """Return a warning if most targets are masked because their user has chosen them before; else None.

    Parameters
    ----------
    of_whom : "test" or "validation".
    """
    if repeated <= MOST * targets:
        return None
    return (
        f"{repeated:,} of {targets:,} {of_whom} targets ({repeated / targets:.0%}) are items that their user has "
        "chosen before. evaluate.mask_seen takes these out of the ranking, so every model misses them. For a log of "
        "repeated choices set evaluate.mask_seen: false"
    )
