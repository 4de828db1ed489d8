from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from scoring.normalise import NORMALISATIONS, ScoreMap

columns = hnp.arrays(np.float32, st.integers(2, 300), elements=st.floats(-1e6, 1e6, width=32), unique=False)


def fitted(values: np.ndarray, method: str) -> np.ndarray:
    anchors = NORMALISATIONS[method](len(values))
    return ScoreMap.fit(anchors, np.sort(values)[anchors.ranks])(values)


@pytest.mark.parametrize("method", NORMALISATIONS)
@given(values=columns)
@settings(deadline=None)
def test_keeps_the_order_within_zero_and_one(method, values):
    image = fitted(values, method)[np.argsort(values, kind="stable")]
    assert image.min() >= 0
    assert image.max() <= 1
    assert (np.diff(image) >= 0).all()


def test_minmax_is_the_formula():
    values = np.array([3.0, -1.0, 7.0, 1.0], dtype=np.float32)
    np.testing.assert_allclose(fitted(values, "minmax"), [0.5, 0.0, 1.0, 0.25])


def test_robust_flattens_one_percent_at_each_end():
    values = np.arange(1001, dtype=np.float32)
    values[-1] = 1e9
    np.testing.assert_allclose(fitted(values, "robust"), np.clip((np.arange(1001) - 10) / 980, 0, 1))


@given(columns)
@settings(deadline=None)
def test_rank_is_the_mid_rank_when_every_sample_is_a_knot(values):
    np.testing.assert_allclose(fitted(values, "rank"), (rankdata(values) - 1) / (len(values) - 1), atol=1e-12)


def test_rank_approximates_the_cdf_of_many_samples():
    values = np.random.default_rng(0).standard_cauchy(50_000).astype(np.float32)
    exact = (rankdata(values) - 1) / (len(values) - 1)
    assert np.abs(fitted(values, "rank") - exact).max() < 1 / 1024


@pytest.mark.parametrize("method", NORMALISATIONS)
@pytest.mark.parametrize("count", [1, 5])
def test_a_constant_column_maps_to_one_level(method, count):
    image = fitted(np.full(count, 3.5, dtype=np.float32), method)
    assert len(set(image.tolist())) == 1
    assert np.isfinite(image).all()


def test_extreme_floats_do_not_overflow():
    largest = np.finfo(np.float32).max
    np.testing.assert_allclose(fitted(np.array([-largest, 0, largest], np.float32), "minmax"), [0, 0.5, 1])


@given(columns, st.integers(0, 300))
@settings(deadline=None)
def test_the_image_of_a_value_does_not_depend_on_its_array(values, cut):
    anchors = NORMALISATIONS["rank"](len(values))
    score_map = ScoreMap.fit(anchors, np.sort(values)[anchors.ranks])
    parts = np.concatenate([score_map(values[:cut]), score_map(values[cut:])])
    np.testing.assert_array_equal(parts, score_map(values))
