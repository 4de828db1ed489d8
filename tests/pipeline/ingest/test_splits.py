"""Splits and exact cuts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.sequences import order_log
from pipeline.ingest.splits import (
    TimeCuts,
    assign_splits,
    count_bins,
    cut_ranks,
    empty_histogram,
    key_time,
    select_keys,
    time_keys,
)

times = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=80)


def _log(**columns: list[float]):
    count = len(next(iter(columns.values())))
    arrays = {name: pa.array(values, pa.float64()) for name, values in columns.items() if name != "item"}
    items = columns.get("item", list(range(1, count + 1)))
    table = pa.table({"user": ["u"] * count, "item": pa.array(items, pa.int32()), **arrays})
    return order_log(table, np.zeros(count + 1, np.uint64))


@given(times, st.booleans())
def test_keys_keep_the_order_and_can_be_read_back(values: list[float], whole: bool) -> None:
    array = np.array(values)
    if whole:
        array = np.floor(array % 1e15)
    keys = time_keys(array, whole)
    assert (np.argsort(keys, kind="stable") == np.argsort(array, kind="stable")).all()
    assert [key_time(int(key), whole) for key in keys] == array.tolist()


@settings(max_examples=60, deadline=None)
@given(times, st.integers(1, 5), st.data())
def test_selected_keys_are_those_of_a_full_sort(values: list[float], blocks: int, data: st.DataObject) -> None:
    array = np.array(values)
    parts = [time_keys(part, False) for part in np.array_split(array, blocks)]
    ranks = data.draw(st.lists(st.integers(1, len(values)), min_size=1, max_size=2))
    passes = 0

    def count(places):
        nonlocal passes
        passes += 1
        histograms = [empty_histogram() for _ in places]
        for part in parts:
            for histogram, bins in zip(histograms, places, strict=True):
                found, counts = count_bins(part, bins)
                histogram[found] += counts
        return histograms

    keys = time_keys(array, False)
    selected = select_keys(count, ranks, int(keys.min()), int(keys.max()))
    assert [key_time(key, False) for key in selected] == [np.sort(array)[rank - 1] for rank in ranks]
    assert passes <= 4


@pytest.mark.parametrize(
    ("rows", "ranks"), [(10, (8, 9)), (1, (1, 1)), (19, (15, 17)), (10**10, (8 * 10**9, 9 * 10**9))]
)
def test_cut_ranks_are_eight_and_nine_tenths(rows: int, ranks: tuple[int, int]) -> None:
    assert cut_ranks(rows) == ranks


def test_ties_at_a_cut_go_to_the_earlier_part() -> None:
    log = _log(timestamp=[1, 2, 2, 2, 3, 3, 4])
    assert assign_splits(log, "global_time", TimeCuts(2, 3)).tolist() == [0, 0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(("length", "parts"), [(1, [0]), (2, [0, 0]), (3, [0, 1, 2]), (5, [0, 0, 0, 1, 2])])
def test_leave_one_out(length: int, parts: list[int]) -> None:
    assert assign_splits(_log(timestamp=list(range(length))), "leave_one_out", None).tolist() == parts
