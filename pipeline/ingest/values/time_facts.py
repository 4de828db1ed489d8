"""Summarise the times of a log, counted block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Unit(NamedTuple):
    """The range of present-day times in a unit: low <= time < high."""

    name: str
    low: float
    high: float


#: Ascending, without overlap; a value between them is not a present-day time in any unit.
UNITS = (
    Unit("years", 1900, 2101),
    Unit("days since 1970", 3_650, 47_483),
    Unit("YYYYMM", 190_001, 210_013),
    Unit("YYYYMMDD", 19_000_101, 21_001_232),
    Unit("seconds since 1970", 3e8, 5e9),
    Unit("YYYYMMDDhhmm", 190_001_010_000, 210_013_000_000),
    Unit("milliseconds since 1970", 3e11, 5e12),
    Unit("YYYYMMDDhhmmss", 19_000_101_000_000, 21_001_232_000_000),
    Unit("microseconds since 1970", 3e14, 5e15),
    Unit("nanoseconds since 1970", 3e17, 5e18),
)
ZERO = (-1.0, math.nextafter(1.0, 2.0))
_EDGES = np.array([*ZERO, *(edge for unit in UNITS for edge in (unit.low, unit.high))])
#: The bin of -1 to 1, and the bins of the units.
ZERO_BIN = 1
UNIT_BINS = tuple(range(3, len(_EDGES) + 1, 2))


@dataclass(frozen=True)
class TimeFacts:
    """Counts over the timestamps of a block or of a log.

    Attributes
    ----------
    bins : counts between the edges of the units, int64 [2 * units + 3].
    low, high : the earliest and the latest time; NaN if there is none.
    low_count, high_count : the number of rows with these times.
    next_low, next_high : the earliest time above `low`, the latest below `high`; infinite if there is none.
    """

    bins: npt.NDArray[np.int64]
    low: float = math.nan
    high: float = math.nan
    low_count: int = 0
    high_count: int = 0
    next_low: float = math.inf
    next_high: float = -math.inf

    @property
    def rows(self) -> int:
        return int(self.bins.sum())

    def as_list(self) -> list[float]:
        """Return the facts as numbers, the bins last, for `from_list`."""
        return [
            self.low,
            self.high,
            float(self.low_count),
            float(self.high_count),
            self.next_low,
            self.next_high,
            *self.bins.astype(np.float64).tolist(),
        ]

    @classmethod
    def from_list(cls, numbers: npt.NDArray[np.float64]) -> TimeFacts:
        low, high, low_count, high_count, next_low, next_high = numbers[:6].tolist()
        return cls(numbers[6:].astype(np.int64), low, high, int(low_count), int(high_count), next_low, next_high)


def no_times() -> TimeFacts:
    """Return the facts of an empty block."""
    return TimeFacts(np.zeros(len(_EDGES) + 1, np.int64))


def time_facts(times: npt.NDArray[np.float64]) -> TimeFacts:
    """Return the facts of a block.

    If all of it lies between two edges, its bounds tell its bin.
    """
    if not len(times):
        return no_times()
    low, high = float(times.min()), float(times.max())
    bins = np.zeros(len(_EDGES) + 1, np.int64)
    first, last = bin_of(np.array([low, high]))
    if first == last:
        bins[first] = len(times)
    else:
        bins += np.bincount(bin_of(times), minlength=len(bins))
    lowest, highest = times == low, times == high
    return TimeFacts(
        bins,
        low,
        high,
        int(np.count_nonzero(lowest)),
        int(np.count_nonzero(highest)),
        float(np.where(lowest, math.inf, times).min()),
        float(np.where(highest, -math.inf, times).max()),
    )


def bin_of(times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bin of each time."""
    return np.searchsorted(_EDGES, times, side="right")


def merge_time_facts(parts: Iterable[TimeFacts]) -> TimeFacts:
    """Merge the facts of all blocks."""
    known = [part for part in parts if part.rows]
    if not known:
        return no_times()
    low, high = min(part.low for part in known), max(part.high for part in known)
    return TimeFacts(
        np.sum([part.bins for part in known], axis=0),
        low,
        high,
        sum(part.low_count for part in known if part.low == low),
        sum(part.high_count for part in known if part.high == high),
        min(value for part in known for value in (part.low, part.next_low) if value > low or value == math.inf),
        max(value for part in known for value in (part.high, part.next_high) if value < high or value == -math.inf),
    )


def unit_name(place: int) -> str:
    """Return the unit of a bin."""
    return UNITS[UNIT_BINS.index(place)].name
