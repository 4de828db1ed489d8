"""Find times that cannot be what they seem: two units in one log, and placeholders for an unknown time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.ingest.values.time_facts import UNIT_BINS, UNITS, ZERO, ZERO_BIN, TimeFacts, bin_of

#: Seconds since 1970 that programs write for an unknown time: the years 1, 1601, 1753, 1899, 1900, 1980, 2038, 2099,
#: 2100, 3000 and 9999, and the largest value of 32 bits.
_KNOWN = np.array(
    [-62_135_596_800, -11_644_473_600, -6_847_804_800, -2_209_161_600, -2_208_988_800, -(2.0**31), 315_532_800,
     2.0**31 - 1, 2.0**32 - 1, 4_102_358_400, 4_102_444_800, 9_999_999_999, 32_503_680_000, 253_402_214_400,
     253_402_300_799, 253_402_300_800]
)  # fmt: skip
_KNOWN_NUMBERS = (9_999, 19_000_101, 19_700_101, 99_991_231, -(2.0**63), 2.0**63, 2.0**64)
#: 1970-01-01 in all time zones; these differ by multiples of a quarter of an hour.
_ZONES, _QUARTER = 14 * 3600.0, 900.0
#: Two units whose windows are closer than this factor cannot be told from one long log.
_APART = 10.0
#: Counters have values as small as the small units, so a few such values prove nothing.
_COUNTERS, _COUNTER_SHARE = 4, 0.01


def two_units(facts: TimeFacts) -> tuple[int, int] | None:
    """Return the bins of two units that are mixed in a log's numbers; None if one unit explains them.

    A log that spans decades in a fine unit passes through the window of a coarser one, and has far more times between
    the two windows than in the lower one. If there are fewer between them than in it, these are two units.
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
    """Return whether a bin holds one value only, at an end of the log, that programs write for an unknown time."""
    return any(
        bin_of(np.array([value]))[0] == place and count == facts.bins[place] and well_known(value, False)
        for value, count in _ends(facts)
    )


def _ends(facts: TimeFacts) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return the earliest and the latest time, and how often each occurs."""
    return (facts.low, facts.low_count), (facts.high, facts.high_count)


@dataclass(frozen=True)
class StandIn:
    """A placeholder for an unknown time; `first` if it precedes all other times."""

    value: float
    rows: int
    first: bool


def stand_ins(facts: TimeFacts, dates: bool) -> list[StandIn]:
    """Return times that look like a placeholder for an unknown one, at either end of the log.

    Such a value is repeated, and farther from all others than these spread. For values that programs are known to
    write, such as 1970-01-01 and 9999-12-31, a twentieth of the spread and one row suffice. Numbers count only if most
    of the others are present-day times in some unit: positions and counters begin at 0 and are never unknown.

    Parameters
    ----------
    dates : whether the log writes dates, which are seconds here.
    """
    odd = sum(count for value, count in _ends(facts) if well_known(value, dates))
    main = [place for place in UNIT_BINS if facts.bins[place] * 2 > facts.rows - odd]
    if not facts.rows or facts.low == facts.high or not (dates or main):
        return []  # a log with a single time is reported by its ties
    found: list[StandIn] = []
    zeros = int(facts.bins[ZERO_BIN])
    by_zero = not dates and zeros > facts.bins[ZERO_BIN + 1 : main[0]].sum()
    if by_zero:
        # Values from -1 to 1 are counted together; they are named by the least if all of them equal it.
        found.append(StandIn(facts.low if facts.low_count == zeros else 0.0, zeros, True))
    spread = facts.next_high - facts.next_low
    ends = (
        StandIn(facts.low, facts.low_count, True),
        StandIn(facts.high, facts.high_count, False),
    )
    for end, gap in zip(ends, (facts.next_low - facts.low, facts.high - facts.next_high), strict=True):
        if end.first and by_zero and end.value >= ZERO[0]:
            continue
        known = well_known(end.value, dates)
        if 0 < spread < math.inf and gap > (spread / 20 if known else spread) and (end.rows > 1 or known):
            found.append(end)
    return found


def well_known(value: float, dates: bool) -> bool:
    """Return whether programs write this value for an unknown time."""
    if not dates and value in _KNOWN_NUMBERS:
        return True
    for scale in (1.0,) if dates else (1.0, 1e3, 1e6, 1e9):
        seconds = value / scale
        if abs(seconds) <= _ZONES and seconds % _QUARTER == 0:
            return True
        if (np.abs(seconds - _KNOWN) < 1).any():
            return True
    return False
