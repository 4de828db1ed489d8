from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scoring.order_statistics import (
    RankSearch,
    WeightedKeys,
    double_keys,
    float_keys,
    key_doubles,
    key_floats,
    run_searches,
)

floats = hnp.arrays(
    np.float32,
    st.integers(1, 200),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(floats)
@settings(deadline=None)
def test_keys_sort_as_the_floats_and_give_them_back(values):
    keys = float_keys(values)
    np.testing.assert_array_equal(key_floats(keys), values)
    np.testing.assert_array_equal(key_floats(np.sort(keys)), np.sort(values))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_keys_of_64_bits_do_the_same(values):
    doubles = np.array(values)
    keys = double_keys(doubles)
    np.testing.assert_array_equal(key_doubles(keys), doubles)
    np.testing.assert_array_equal(key_doubles(np.sort(keys)), np.sort(doubles))


def test_both_zeros_have_one_key():
    keys = float_keys(np.array([0.0, -0.0], dtype=np.float32))
    assert keys[0] == keys[1]
    assert len(set(double_keys(np.array([0.0, -0.0])).tolist())) == 1


@given(floats, st.data())
@settings(deadline=None)
def test_finds_what_sorting_finds_in_any_partition(values, data):
    ranks = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=30))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    shards = np.split(values, cuts)
    (search,) = run_searches(lambda: ((float_keys(shard),) for shard in shards), [RankSearch.start(ranks, 32)])
    np.testing.assert_array_equal(key_floats(search.found), np.sort(values)[ranks])


@given(floats, st.data())
@settings(deadline=None)
def test_a_weighed_key_is_so_many_equal_ones(values, data):
    numbers = data.draw(st.lists(st.integers(1, 9), min_size=len(values), max_size=len(values)))
    weights = np.array(numbers, dtype=np.int64)
    repeated = np.sort(np.repeat(values, weights))
    ranks = data.draw(st.lists(st.integers(0, len(repeated) - 1), min_size=1, max_size=30))
    cut = data.draw(st.integers(0, len(values)))
    shards = [
        WeightedKeys(float_keys(values[:cut]), weights[:cut]),
        WeightedKeys(float_keys(values[cut:]), weights[cut:]),
    ]
    (search,) = run_searches(lambda: ((shard,) for shard in shards), [RankSearch.start(ranks, 32)])
    np.testing.assert_array_equal(key_floats(search.found), repeated[ranks])


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=100), st.data())
@settings(deadline=None)
def test_a_bound_has_as_many_keys_below_as_its_rank(numbers, data):
    keys = np.array(numbers, dtype=np.uint64)
    keys = np.unique(keys)
    rank = data.draw(st.integers(0, len(keys) - 1))
    (search,) = run_searches(lambda: iter([(keys,)]), [RankSearch.start([rank], 64, exact=False)])
    assert np.count_nonzero(keys < search.found[0]) == rank


def test_residual_is_the_rank_among_equal_keys():
    keys = np.array([5, 7, 7, 7, 9], dtype=np.uint32)
    (search,) = run_searches(lambda: iter([(keys,)]), [RankSearch.start([3], 32)])
    assert search.found.tolist() == [7]
    assert search.residuals.tolist() == [2]


def test_several_searches_share_their_passes():
    passes = 0

    def stream():
        nonlocal passes
        passes += 1
        yield np.arange(100, dtype=np.uint32), np.arange(100, dtype=np.uint32) * 7

    first, second = run_searches(stream, [RankSearch.start([10], 32), RankSearch.start([10], 32)])
    assert (first.found[0], second.found[0], passes) == (10, 70, 2)


def test_no_ranks_need_no_pass():
    def stream():
        raise AssertionError("the stream was read")
        yield

    (search,) = run_searches(stream, [RankSearch.start([], 32)])
    assert len(search.found) == 0


def test_rank_beyond_the_stream_is_refused():
    with pytest.raises(ValueError, match="rank"):
        run_searches(lambda: iter([(np.arange(3, dtype=np.uint32),)]), [RankSearch.start([3], 32)])
