from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.studies.forecast.line import line_through

sizes = st.integers(0, 10**9)
seconds = st.just(0.0) | st.floats(1e-6, 1e6)
points = st.tuples(sizes, seconds)


def test_two_points_far_apart_tell_what_is_fixed_and_what_grows() -> None:
    line = line_through((800, 4.8), (8000, 12.0))
    assert (line.fixed, line.slope) == (pytest.approx(4.0), pytest.approx(0.001))
    assert line.told


@pytest.mark.parametrize("earlier", [3.2, 4.0, 4.9])
def test_two_runs_of_the_same_size_grow_in_proportion(earlier: float) -> None:
    """If the log is smaller than the share, both runs cover all of it and differ only by noise."""
    line = line_through((4348, earlier), (4348, 4.0))
    assert line.at(4348) == pytest.approx(max(earlier, 4.0))
    assert line.at(43_480) == pytest.approx(10 * max(earlier, 4.0))
    assert not line.told


@pytest.mark.parametrize("later", [1.0, 4.0, 4.1])
def test_growth_that_noise_hides_is_as_much_as_noise_can_hide(later: float) -> None:
    line = line_through((1000, 4.0), (10_000, later))
    assert line.at(10_000) == pytest.approx(max(4.0, later))
    assert line.at(100_000) == pytest.approx(2 * max(4.0, later))
    assert not line.told


@given(points, points, st.floats(1, 1e4))
def test_more_work_takes_no_less_and_at_most_in_proportion(
    one: tuple[int, float], other: tuple[int, float], growth: float
) -> None:
    line = line_through(one, other)
    largest, longest = max(one[0], other[0]), max(one[1], other[1])
    assert line.fixed >= 0
    assert line.slope >= 0
    predicted = line.at(largest * growth)
    assert longest * (1 - 1e-9) <= predicted <= longest * growth * (1 + 1e-9)


@given(points, points)
def test_the_order_of_the_points_does_not_matter(one: tuple[int, float], other: tuple[int, float]) -> None:
    assert line_through(one, other) == line_through(other, one)


@given(st.floats(0, 100), st.floats(1e-6, 1), st.integers(1, 1000), st.integers(2, 100))
def test_a_line_that_is_seen_comes_out(fixed: float, slope: float, low: int, factor: int) -> None:
    high = low * factor
    line = line_through((low, fixed + slope * low), (high, fixed + slope * high))
    if line.told:
        assert line.at(10 * high) == pytest.approx(fixed + slope * 10 * high, rel=1e-6)
    else:
        assert line.at(10 * high) <= 3 * (fixed + slope * 10 * high)
