from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.ids import draw_order
from scoring.weighted import highest_keys, weighted_keys

IDS = np.arange(400, dtype=np.int64) * 7919


def test_the_first_draw_is_in_proportion_to_the_weights():
    weights = np.array([1.0, 2.0, 5.0])
    first = [int(weighted_keys(IDS[:3], weights, seed).argmin()) for seed in range(8000)]
    np.testing.assert_allclose(np.bincount(first) / 8000, weights / 8, atol=0.02)


def test_the_second_draw_is_in_proportion_among_those_left():
    weights = np.array([1.0, 2.0, 5.0])
    pairs = np.array([weighted_keys(IDS[:3], weights, seed).argsort()[:2] for seed in range(8000)])
    after_the_last = pairs[pairs[:, 0] == 2, 1]
    np.testing.assert_allclose(np.bincount(after_the_last) / len(after_the_last), [1 / 3, 2 / 3], atol=0.03)


def test_equal_weights_are_the_uniform_draw():
    keys = weighted_keys(IDS, np.full(400, 0.3), 5)
    np.testing.assert_array_equal(keys.argsort(), np.argsort(~draw_order(IDS, 5)))


def test_weight_zero_comes_last_in_an_order_of_the_seed():
    weights = np.where(np.arange(400) < 10, 1e-30, 0.0)
    orders = [weighted_keys(IDS, weights, seed).argsort() for seed in (1, 2)]
    assert all(set(order[:10].tolist()) == set(range(10)) for order in orders)
    assert orders[0][10:].tolist() != orders[1][10:].tolist()
    assert len(np.unique(weighted_keys(IDS, np.zeros(400), 1))) == 400


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_the_highest_come_first(values):
    score = np.array(values, dtype=np.float32)
    order = highest_keys(IDS[: len(score)], score, 0).argsort(kind="stable")
    np.testing.assert_array_equal(score[order], np.sort(score)[::-1])
