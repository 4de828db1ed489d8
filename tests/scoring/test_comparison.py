"""The paired, crossed bootstrap: what it must not depend on, and how often its intervals cover the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.comparison import Resamples, estimate, paired_difference


def grid(seeds: int, users: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(seeds, users))


@given(seeds=st.integers(1, 4), users=st.integers(1, 12), seed=st.integers(0, 99), shift=st.floats(-5, 5))
def test_what_is_added_to_all_is_added_to_the_interval(seeds: int, users: int, seed: int, shift: float) -> None:
    values, draws = grid(seeds, users, seed), Resamples.draw(seeds, users, 200)
    plain, moved = estimate(values, draws), estimate(values + shift, draws)
    assert plain.low <= plain.high
    for end in ("value", "low", "high"):
        assert getattr(moved, end) == pytest.approx(getattr(plain, end) + shift, abs=1e-4)


@given(seeds=st.integers(1, 4), users=st.integers(2, 12), seed=st.integers(0, 99))
def test_users_without_a_value_do_not_count(seeds: int, users: int, seed: int) -> None:
    values = grid(seeds, users, seed)
    values[:, 0] = np.nan
    draws = Resamples.draw(seeds, users, 300)
    found = estimate(values, draws)
    assert found.value == pytest.approx(values[:, 1:].mean())
    low, high = np.nanmin(values), np.nanmax(values)
    assert low - 1e-6 <= found.low <= found.high <= high + 1e-6
    assert np.isnan(estimate(np.full((seeds, users), np.nan), draws).value)


def test_resamples_are_the_brute_force_means() -> None:
    values, draws = grid(3, 5, 1), Resamples.draw(3, 5, 50, seed=4)
    assert (draws.seeds.sum(axis=1) == 3).all()
    assert (draws.users.sum(axis=1) == 5).all()
    expected = [
        np.repeat(np.repeat(values, seeds.astype(int), axis=0), users.astype(int), axis=1).mean()
        for seeds, users in zip(draws.seeds, draws.users, strict=True)
    ]
    np.testing.assert_allclose(draws.means(values), expected, rtol=1e-5)


def test_many_users_are_resampled_in_groups_with_the_same_spread() -> None:
    values = np.random.default_rng(3).exponential(size=(2, 4001))
    values[:, ::7] = np.nan
    whole = estimate(values, Resamples.draw(2, 4001))
    draws = Resamples.draw(2, 4001, max_groups=400)
    assert draws.users.shape == (1000, 400)
    grouped = estimate(values, draws)
    assert grouped.value == whole.value
    assert grouped.high - grouped.low == pytest.approx(whole.high - whole.low, rel=0.15)
    assert abs(grouped.low - whole.low) < 0.15 * (whole.high - whole.low)


@given(draws=st.integers(1, 4), seed=st.integers(0, 99), easy=st.floats(-3, 3))
def test_what_makes_a_user_or_a_seed_easy_cancels(draws: int, seed: int, easy: float) -> None:
    values, control = grid(2, 6, seed), np.random.default_rng(seed + 1).normal(size=(2, draws, 6))
    plain = paired_difference(values, control)
    ease = easy * np.arange(12).reshape(2, 6)
    np.testing.assert_allclose(paired_difference(values + ease, control + ease[:, None]), plain, atol=1e-9)
    np.testing.assert_allclose(paired_difference(values, values[:, None].repeat(draws, axis=1)), 0, atol=1e-12)


def test_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="different seeds or users"):
        paired_difference(np.zeros((2, 3)), np.zeros((2, 1, 4)))


def test_intervals_hold_the_truth_when_seeds_and_users_vary() -> None:
    generator = np.random.default_rng(0)
    draws = Resamples.draw(8, 60, 400)
    held = 0
    for _ in range(100):
        effects = generator.normal(size=(8, 1)) + generator.normal(size=(1, 60)) + generator.normal(size=(8, 60))
        found = estimate(effects, draws)
        held += found.low <= 0 <= found.high
    # With 8 seeds, a percentile interval covers a little less than 95%.
    assert held >= 84
