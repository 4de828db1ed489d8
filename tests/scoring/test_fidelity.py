from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scoring.fidelity import Estimate, linear_datamodeling_score, rank_correlation, separation

values = st.lists(st.integers(-5, 5), min_size=3, max_size=12)


@given(values, st.integers(0, 2**31))
def test_the_rank_correlation_is_spearmans(first: list[int], seed: int) -> None:
    second = np.random.default_rng(seed).normal(size=len(first))
    found = rank_correlation(np.asarray(first, dtype=np.float64), second)
    if len(set(first)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


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
