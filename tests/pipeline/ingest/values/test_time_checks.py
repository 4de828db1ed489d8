"""Units of times, and placeholders for an unknown time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.ingest.values.time_checks import StandIn, stand_ins, two_units
from pipeline.ingest.values.time_facts import time_facts, unit_name

NOW = 1.6e9 + np.arange(1000) * 50_000.0
YEAR = 365.25 * 86_400
Times = npt.NDArray[np.float64]


def _units(*times: Times | list[float]) -> tuple[str, ...] | None:
    found = two_units(time_facts(np.concatenate([np.asarray(part, dtype=float) for part in times])))
    return None if found is None else tuple(unit_name(place).split()[0] for place in found)


@pytest.mark.parametrize(
    ("parts", "units"),
    [
        ((NOW, NOW[:300] * 1e3), ("seconds", "milliseconds")),
        ((NOW, [NOW[5] * 1e3]), ("seconds", "milliseconds")),
        (([NOW[5]], NOW * 1e3), ("seconds", "milliseconds")),
        ((NOW, NOW * 1e6), ("seconds", "microseconds")),
        ((NOW * 1e3, NOW * 1e9), ("milliseconds", "nanoseconds")),
        ((NOW * 1e6, NOW * 1e9), ("microseconds", "nanoseconds")),
        ((NOW + 0.25, NOW * 1e3), ("seconds", "milliseconds")),
        ((NOW // 86_400, NOW), ("days", "seconds")),
        ((NOW // 86_400, NOW * 1e3), ("days", "milliseconds")),
        ((20_200_101.0 + np.arange(28), NOW), ("YYYYMMDD", "seconds")),
        ((20_200_101.0 + np.arange(28), 20_200_201_000_000.0 + np.arange(60)), ("YYYYMMDD", "YYYYMMDDhhmmss")),
        ((2000.0 + np.arange(20), NOW), ("years", "seconds")),
    ],
)
def test_two_units_are_found(parts: tuple[Times, ...], units: tuple[str, str]) -> None:
    assert _units(*parts) == units
    assert _units(*parts[::-1]) == units


@pytest.mark.parametrize(
    "times",
    [
        NOW,
        NOW * 1e3,
        NOW * 1e9,
        np.arange(0, 60 * YEAR, YEAR / 50),
        np.arange(0, 60 * YEAR, YEAR / 50) * 1e3,
        np.arange(0, 60 * YEAR, YEAR / 50) * 1e6,
        np.arange(1000.0),
        np.arange(100_000.0),
        np.arange(0, 3e7, 7.0),
        np.cumsum(np.random.default_rng(0).exponential(1e5, 10_000)),
        1950.0 + np.arange(80),
        np.arange(4_000.0, 20_000.0),
        20_100_101 + np.arange(100) * 100.0,
        np.concatenate([np.arange(30.0)] * 50 + [np.arange(3_000.0)]),
        np.concatenate([NOW, np.zeros(50)]),
        np.concatenate([NOW, np.full(50, 18_000.0)]),
        np.concatenate([NOW, [253_402_300_799.0] * 3]),
        np.concatenate([NOW * 1e3, [2.0**63] * 3, [0.0] * 5]),
        np.concatenate([NOW // 86_400, [2.0**31 - 1] * 3]),
    ],
)
def test_one_unit_is_no_fault(times: Times) -> None:
    assert two_units(time_facts(times)) is None


@pytest.mark.parametrize(
    ("times", "dates", "expected"),
    [
        (np.concatenate([NOW, np.zeros(9)]), False, [StandIn(0.0, 9, True)]),
        (np.concatenate([NOW * 1e3, [0.0, -1.0, 1.0]]), False, [StandIn(0.0, 3, True)]),
        (np.concatenate([NOW, [18_000.0] * 4]), False, [StandIn(18_000.0, 4, True)]),
        (np.concatenate([NOW, [-2_208_988_800.0] * 4]), True, [StandIn(-2_208_988_800.0, 4, True)]),
        (np.concatenate([NOW, [-62_135_596_800.0]]), True, [StandIn(-62_135_596_800.0, 1, True)]),
        (np.concatenate([NOW, [-3600.0] * 2]), True, [StandIn(-3600.0, 2, True)]),
        (np.concatenate([NOW, [253_402_214_400.0] * 2]), True, [StandIn(253_402_214_400.0, 2, False)]),
        (np.concatenate([NOW, [2.0**31 - 1] * 2]), False, [StandIn(2.0**31 - 1, 2, False)]),
        (
            np.concatenate([NOW, [0.0] * 2, [4_102_444_800.0]]),
            True,
            [StandIn(0.0, 2, True), StandIn(4.1024448e9, 1, False)],
        ),
        (np.concatenate([NOW, [1.0e9] * 7]), False, [StandIn(1.0e9, 7, True)]),
        (np.concatenate([NOW // 86_400, [0.0] * 7]), False, [StandIn(0.0, 7, True)]),
        (np.concatenate([1990.0 + np.arange(30), [0.0] * 2]), False, [StandIn(0.0, 2, True)]),
        (np.concatenate([1990.0 + np.arange(30), [9999.0] * 2]), False, [StandIn(9999.0, 2, False)]),
        (np.concatenate([NOW, [2.0**64] * 3000]), False, [StandIn(2.0**64, 3000, False)]),
        (np.concatenate([NOW, [0.0] * 3000]), False, [StandIn(0.0, 3000, True)]),
        (np.concatenate([NOW, [-1.0] * 9]), False, [StandIn(-1.0, 9, True)]),
        (np.zeros(30), False, []),
        (NOW, False, []),
        (NOW, True, []),
        (np.concatenate([NOW, [1.0e9]]), False, []),
        (np.concatenate([NOW, NOW[:1], NOW[:1]]), False, []),
        (np.arange(0, 60 * YEAR, YEAR / 50), False, []),
        (np.arange(0, 60 * YEAR, YEAR / 50), True, []),
        (np.repeat(np.arange(5.0), 100), False, []),
        (np.concatenate([np.zeros(100), np.arange(40.0)]), False, []),
        (np.full(30, NOW[0]), True, []),
        (np.repeat(NOW[:2], 5), True, []),
    ],
)
def test_stand_ins_for_an_unknown_time(times: Times, dates: bool, expected: list[StandIn]) -> None:
    assert stand_ins(time_facts(times), dates) == expected
