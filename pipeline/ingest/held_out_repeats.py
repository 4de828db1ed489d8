"""Count the held-out targets of a shard that their user had chosen before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.ingest.ingest_spec import PARTS
from pipeline.ingest.sequences import OrderedLog
from pipeline.ingest.splits import TEST, VALID

#: Bits that hold the number of a part.
_BITS = 2


def repeated_targets(log: OrderedLog, splits: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Count validation and test targets whose user chose the same item in an earlier part; int64 [2].

    Parameters
    ----------
    log : ordered interactions of the shard's users.
    splits : int8 [n] 0 train, 1 valid, 2 test.
    """
    if not len(splits):
        return np.zeros(2, dtype=np.int64)
    pair = log.user_of_row.astype(np.int64) * (int(log.items.max()) + 1) + log.items
    # Sorted by user and item, then by part: the first row of each pair has its earliest part.
    keys = np.sort(pair << _BITS | splits)
    pair, part = keys >> _BITS, keys & (1 << _BITS) - 1
    begins = np.ones(len(keys), dtype=bool)
    begins[1:] = pair[1:] != pair[:-1]
    first = np.flatnonzero(begins)
    earliest = np.repeat(part[first], np.diff(first, append=len(keys)))
    return np.bincount(part[part > earliest], minlength=len(PARTS))[[VALID, TEST]].astype(np.int64)
