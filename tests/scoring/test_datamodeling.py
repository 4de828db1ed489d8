from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scoring.datamodeling import Estimate, linear_datamodeling_score, rank_correlations, separation

values = st.lists(st.integers(-5, 5), min_size=3, max_size=12)


@given(values, st.integers(0, 2**31))
def test_the_rank_correlation_is_spearmans(first: list[int], seed: int) -> None:
    second = np.random.default_rng(seed).normal(size=len(first))
    found = rank_correlations(np.asarray([first, second]), np.stack([second, second]))
    assert found[1] == pytest.approx(1)
    if len(set(first)) == 1:
        assert found[0] == 0
    else:
        assert found[0] == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_a_perfect_prediction_scores_one_and_its_interval_says_so() -> None:
    measured = np.exp(np.arange(20.0))
    found = linear_datamodeling_score(np.arange(20.0), measured)
    assert found.value == pytest.approx(1)
    assert found.low == pytest.approx(1)
    assert linear_datamodeling_score(-np.arange(20.0), measured).value == pytest.approx(-1)


def test_noise_has_an_interval_around_zero() -> None:
    generator = np.random.default_rng(0)
    found = linear_datamodeling_score(generator.normal(size=40), generator.normal(size=40))
    assert found.low < 0 < found.high
    assert found.low < found.value < found.high


def test_too_few_models_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        linear_datamodeling_score([1, 2], [1, 2])
    with pytest.raises(ValueError, match="do not match"):
        linear_datamodeling_score([1, 2, 3], [[1, 2, 3], [1, 2, 3]])


def test_more_queries_narrow_the_interval_around_their_mean() -> None:
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(40, 30))
    noisy = truth + generator.normal(size=truth.shape)
    one, all_ = linear_datamodeling_score(noisy[0], truth[0]), linear_datamodeling_score(noisy, truth)
    assert all_.value == pytest.approx(rank_correlations(noisy, truth).mean())
    assert all_.high - all_.low < (one.high - one.low) / 2
    assert all_.low < all_.value < all_.high


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_separation_counts_pairs(low: list[int], high: list[int]) -> None:
    pairs = [1.0 if above > below else 0.5 if above == below else 0.0 for below in low for above in high]
    assert separation(low, high, resamples=10).value == pytest.approx(np.mean(pairs))


def test_separation_has_an_interval_and_needs_two_sides() -> None:
    generator = np.random.default_rng(1)
    found = separation(generator.normal(size=200), generator.normal(loc=1, size=200))
    assert 0.5 < found.low < found.value < found.high < 1
    with pytest.raises(ValueError, match="both sides"):
        separation([], [1.0])


def test_intervals_are_apart_when_they_share_no_point() -> None:
    assert Estimate(0.5, 0.4, 0.6).apart_from(Estimate(0.1, 0.0, 0.3))
    assert not Estimate(0.5, 0.4, 0.6).apart_from(Estimate(0.1, 0.0, 0.4))
