"""What the times of a log look like taken together: their units, and values that stand for no time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Unit(NamedTuple):
    """Where the times of people's logs lie when they are counted in a unit: low <= time < high."""

    name: str
    low: float
    high: float


#: In ascending order, none overlapping; what lies between them is no time of today in any unit.
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
_ZERO = (-1.0, math.nextafter(1.0, 2.0))
_EDGES = np.array([*_ZERO, *(edge for unit in UNITS for edge in (unit.low, unit.high))])
#: Of the bins between edges: that of -1 to 1, and those of the units.
_ZERO_BIN = 1
UNIT_BINS = tuple(range(3, len(_EDGES) + 1, 2))
#: Seconds since 1970 that programs write for an unknown time: the years 1, 1601, 1753, 1899, 1900, 1980, 2038, 2099,
#: 2100, 3000 and 9999, and the greatest of 32 bits.
_KNOWN = np.array(
    [-62_135_596_800, -11_644_473_600, -6_847_804_800, -2_209_161_600, -2_208_988_800, -(2.0**31), 315_532_800,
     2.0**31 - 1, 2.0**32 - 1, 4_102_358_400, 4_102_444_800, 9_999_999_999, 32_503_680_000, 253_402_214_400,
     253_402_300_799, 253_402_300_800]
)  # fmt: skip
_KNOWN_DATES = (9_999, 19_000_101, 19_700_101, 99_991_231, 2.0**63)
#: 1970-01-01 in all time zones, which differ by quarters of an hour.
_ZONES, _QUARTER = 14 * 3600.0, 900.0
#: Two units whose windows are closer than this have too little between them to tell them from one long log.
_APART = 10.0
#: Small units are also the sizes of counters, so that a few such values are no evidence.
_COUNTERS, _COUNTER_SHARE = 4, 0.01


@dataclass(frozen=True)
class TimeFacts:
    """Counts over the timestamps of a block or of a log.

    Attributes
    ----------
    bins : int64 [2 * units + 3] how many fall between the edges of the units.
    low, high : the least and the greatest time; NaN without any.
    low_count, high_count : how often these occur.
    next_low, next_high : the least time above `low`, the greatest below `high`; infinite where there is none.
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
        """The facts as numbers, the bins last; `from_list` reads them."""
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
    """The facts of no time at all."""
    return TimeFacts(np.zeros(len(_EDGES) + 1, np.int64))


def time_facts(times: npt.NDArray[np.float64]) -> TimeFacts:
    """The facts of a block; one look at its bounds is enough where all of it lies between two edges."""
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
    """Which bin each time falls into."""
    return np.searchsorted(_EDGES, times, side="right")


def merge_time_facts(parts: Iterable[TimeFacts]) -> TimeFacts:
    """The facts of all blocks together."""
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


def two_units(facts: TimeFacts) -> tuple[int, int] | None:
    """The bins of two units that the numbers of a log are mixed of; None where one unit explains them.

    A log that spans decades in a fine unit passes through the window of a coarser one, and has far more times between
    the two windows than in the lower. Where there are fewer between than in it, these are two units.
    """
    counts = facts.bins
    used = [index for index in range(len(UNITS)) if counts[UNIT_BINS[index]]]
    for position, low in enumerate(used):
        for high in used[position + 1 :]:
            low_bin, high_bin = UNIT_BINS[low], UNIT_BINS[high]
            between, lower = counts[low_bin + 1 : high_bin].sum(), counts[low_bin]
            if UNITS[high].low / UNITS[low].high < _APART or between >= lower:
                continue
            if low < _COUNTERS and lower < max(2, _COUNTER_SHARE * facts.rows):
                continue
            if _is_stand_in(facts, low_bin) or _is_stand_in(facts, high_bin):
                continue
            return low_bin, high_bin
    return None


def _is_stand_in(facts: TimeFacts, place: int) -> bool:
    """Whether all that falls into a bin is one value, at an end of the log, that programs write for an unknown time."""
    ends = ((facts.low, facts.low_count), (facts.high, facts.high_count))
    return any(
        bin_of(np.array([value]))[0] == place and count == facts.bins[place] and well_known(value, False)
        for value, count in ends
    )


def unit_name(place: int) -> str:
    """The unit of a bin."""
    return UNITS[UNIT_BINS.index(place)].name


@dataclass(frozen=True)
class StandIn:
    """A value that some interactions have where their time is not known; `first` where it precedes all others."""

    value: float
    rows: int
    first: bool


def stand_ins(facts: TimeFacts, dates: bool) -> list[StandIn]:
    """Times that look like a stand-in for an unknown one, at either end of the log.

    Such a value is repeated, and farther from all others than these spread; for values that programs are known to
    write, such as 1970-01-01 and 9999-12-31, a twentieth of the spread and one row are enough. Numbers count only
    where most of them are times of today in some unit: positions and counters begin at 0 and have no unknown.

    Parameters
    ----------
    dates : the log writes dates, which are seconds here.
    """
    main = [place for place in UNIT_BINS if facts.bins[place] * 2 > facts.rows]
    if not facts.rows or not (dates or main):
        return []
    found: list[StandIn] = []
    zeros = int(facts.bins[_ZERO_BIN])
    by_zero = not dates and zeros > facts.bins[_ZERO_BIN + 1 : main[0]].sum()
    if by_zero:
        found.append(StandIn(0.0, zeros, True))
    spread = facts.next_high - facts.next_low
    ends = (
        StandIn(facts.low, facts.low_count, True),
        StandIn(facts.high, facts.high_count, False),
    )
    for end, gap in zip(ends, (facts.next_low - facts.low, facts.high - facts.next_high), strict=True):
        if end.first and by_zero and end.value >= _ZERO[0]:
            continue
        known = well_known(end.value, dates)
        if 0 < spread < math.inf and gap > (spread / 20 if known else spread) and (end.rows > 1 or known):
            found.append(end)
    return found


def well_known(value: float, dates: bool) -> bool:
    """Whether programs write this value for a time that they do not know."""
    if not dates and value in _KNOWN_DATES:
        return True
    for scale in (1.0,) if dates else (1.0, 1e3, 1e6, 1e9):
        seconds = value / scale
        if abs(seconds) <= _ZONES and seconds % _QUARTER == 0:
            return True
        if (np.abs(seconds - _KNOWN) < 1).any():
            return True
    return False
