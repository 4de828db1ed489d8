"""Decide which interactions are for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.ingest.ingest_spec import SplitName
from pipeline.ingest.sequences import OrderedLog

TRAIN, VALID, TEST = 0, 1, 2

#: One pass over the timestamps has 2^16 bins, so it settles this many bits of a cut.
_BIN_BITS = 16
_SHARES = (8, 9)  # tenths of the log before the first and the second cut


@dataclass(frozen=True)
class TimeCuts:
    """The ends of train and validation: train up to and including `train_until`, then up to `valid_until`."""

    train_until: float
    valid_until: float


def assign_splits(log: OrderedLog, split: SplitName, cuts: TimeCuts | None) -> npt.NDArray[np.int8]:
    """Return int8 [n]: 0 train, 1 valid, 2 test for every interaction, non-decreasing within a user."""
    if split == "column":
        if log.splits is None:
            raise ValueError("the log gives no split")
        return log.splits
    if split == "leave_one_out":
        return _leave_one_out(log.offsets)
    if cuts is None or log.timestamps is None:
        raise ValueError("a split by time needs timestamps and cuts")
    late = (log.timestamps > cuts.train_until).astype(np.int8)
    return late + (log.timestamps > cuts.valid_until).astype(np.int8)


def _leave_one_out(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """Assign each user's last interaction to test and the one before to validation.

    Users with fewer than three interactions stay in train.
    """
    splits = np.zeros(offsets[-1], dtype=np.int8)
    last = offsets[1:][np.diff(offsets) >= 3] - 1
    splits[last] = TEST
    splits[last - 1] = VALID
    return splits


def cut_ranks(interactions: int) -> tuple[int, int]:
    """Return the ranks, from 1, of the last train and the last validation interaction in the order of time.

    The 8 : 1 : 1 division rounds down, and interactions that tie with the last one go with it.
    """
    first, second = (max(1, interactions * share // 10) for share in _SHARES)
    return first, second


@dataclass(frozen=True)
class Bins:
    """65,536 equal bins of 2^shift keys each; the first begins at `low`."""

    low: int
    shift: int


def time_keys(times: npt.NDArray[np.float64], whole: bool) -> npt.NDArray[np.uint64]:
    """Return uint64 keys in the order of the times.

    Whole numbers count from −2^63. Other floats are ordered by their bits, with the sign unfolded.
    """
    if whole:
        return times.astype(np.int64).view(np.uint64) ^ np.uint64(1 << 63)
    bits = (times + 0.0).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    return np.where(negative, ~bits, bits | np.uint64(1 << 63))


def key_time(key: int, whole: bool) -> float:
    """Return the time that has a key."""
    if whole:
        return float(key - (1 << 63))
    bits = key & ((1 << 63) - 1) if key >> 63 else ~key & ((1 << 64) - 1)
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])


def count_bins(keys: npt.NDArray[np.uint64], bins: Bins) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the bins that hold any of the keys, and their counts."""
    places = (keys[keys >= np.uint64(bins.low)] - np.uint64(bins.low)) >> np.uint64(bins.shift)
    inside = places[places < np.uint64(1 << _BIN_BITS)].astype(np.int64)
    found, counts = np.unique(inside, return_counts=True)
    return found, counts.astype(np.int64)


Counter = Callable[[Sequence[Bins]], Sequence[npt.NDArray[np.int64]]]


def select_keys(count: Counter, ranks: Sequence[int], lowest: int, highest: int) -> list[int]:
    """Return the keys at the given ranks of a multiset that is only ever counted: an exact radix selection.

    Each pass over the data asks `count` for one histogram per rank (int64 [65536]) and continues inside the bin that
    holds the rank. Memory is a few histograms however long the log is.

    Parameters
    ----------
    ranks : counted from 1.
    lowest, highest : bounds of all keys.
    """
    shift = max(0, (highest - lowest).bit_length() - _BIN_BITS)
    places = [Bins(lowest, shift) for _ in ranks]
    left = list(ranks)
    while True:
        for index, histogram in enumerate(count(places)):
            cumulated = np.cumsum(histogram)
            bin_index = int(np.searchsorted(cumulated, left[index]))
            left[index] -= int(cumulated[bin_index - 1]) if bin_index else 0
            places[index] = Bins(places[index].low + (bin_index << places[index].shift), places[index].shift)
        if shift == 0:
            return [place.low for place in places]
        shift = max(0, shift - _BIN_BITS)
        places = [Bins(place.low, shift) for place in places]


def empty_histogram() -> npt.NDArray[np.int64]:
    return np.zeros(1 << _BIN_BITS, dtype=np.int64)
