"""Samples of a shard against the plain reference."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.ingest_spec import SplitName
from pipeline.ingest.samples import SampleRules, build_tables, ranges, slices
from pipeline.ingest.sequences import order_log
from pipeline.ingest.splits import (
    Bins,
    TimeCuts,
    assign_splits,
    count_bins,
    cut_ranks,
    empty_histogram,
    key_time,
    select_keys,
    time_keys,
)
from scoring.ids import item_keys
from tests.pipeline.ingest.reference import reference_tables, split_frame

#: Of items whose ids are their indices as text.
KEYS = item_keys([str(index) for index in range(1, 9)])

interactions = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "10", "9", "é"]),
        st.integers(1, 8),
        st.integers(0, 12),
        st.integers(0, 2),
    ),
    max_size=60,
)


def _cuts(times: np.ndarray) -> TimeCuts:
    def count(places):
        histograms = [empty_histogram() for _ in places]
        for histogram, bins in zip(histograms, places, strict=True):
            found, counts = count_bins(keys, bins)
            histogram[found] += counts
        return histograms

    keys = time_keys(times, whole=True)
    found = select_keys(count, cut_ranks(len(times)), int(keys.min()), int(keys.max()))
    return TimeCuts(*(key_time(key, whole=True) for key in found))


@settings(max_examples=150, deadline=None)
@given(
    rows=interactions,
    split=st.sampled_from(["global_time", "leave_one_out", "column"]),
    per_user=st.sampled_from([1, 2, "all"]),
    max_history=st.integers(1, 6),
    shuffle=st.randoms(use_true_random=False),
)
def test_tables_equal_the_reference(
    rows: list[tuple[str, int, int, int]],
    split: SplitName,
    per_user: Literal["all"] | int,
    max_history: int,
    shuffle,
) -> None:
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    names = ["user", "item", "timestamp", "split"]
    frame = pd.DataFrame(rows, columns=names).astype({"item": "int32", "timestamp": "float64", "split": "int8"})
    frame["item_id"] = frame["item"].astype(str)
    table = pa.table(
        {
            "user": pa.array([row[0] for row in shuffled], pa.string()),
            "item": pa.array([row[1] for row in shuffled], pa.int32()),
            "timestamp": pa.array([float(row[2]) for row in shuffled], pa.float64()),
        }
    )
    if split == "column":
        table = table.append_column("split", pa.array([row[3] for row in shuffled], pa.int8()))
    log = order_log(table, KEYS)
    cuts = TimeCuts(0, 0)
    if split == "global_time" and log.timestamps is not None and len(log.items):
        cuts = _cuts(log.timestamps)
    built = build_tables(log, assign_splits(log, split, cuts), SampleRules(per_user, max_history, True))
    wanted = reference_tables(split_frame(frame, split), per_user, max_history) if rows else {}
    for name in ("sequences", "train", "valid", "test"):
        assert getattr(built, name).to_pylist() == wanted.get(name, [])
    # Every user's whole history is in the last of these tables that names the user.
    told = {row["user_id"]: row["items"] for row in (*built.sequences.to_pylist(), *built.untold.to_pylist())}
    for table in (built.valid, built.test):
        told |= {row["user_id"]: row["seen"] + row["targets"] for row in table.to_pylist()}
    walks = {
        user: log.items[log.offsets[row] : log.offsets[row + 1]].tolist()
        for row, user in enumerate(log.users.to_pylist())
    }
    assert told == walks
    others = {row["user_id"] for part in (built.sequences, built.valid, built.test) for row in part.to_pylist()}
    assert not others & set(built.untold["user_id"].to_pylist())


def test_empty_histories_are_counted() -> None:
    log = order_log(
        pa.table(
            {
                "user": ["a", "b", "b", "c"],
                "item": pa.array([1, 1, 2, 3], pa.int32()),
                "timestamp": [9.0, 1.0, 2.0, 1.0],
            }
        ),
        KEYS,
    )
    tables = build_tables(log, assign_splits(log, "global_time", TimeCuts(1.0, 5.0)), SampleRules(1, 5, True))
    assert tables.empty_histories == (2, 0, 1)
    assert tables.train.num_rows == 0
    assert tables.valid.to_pylist()[0]["targets"] == [2]
    assert tables.held_out[0].tolist() == [2]


def test_an_empty_shard_has_the_types_of_a_full_one() -> None:
    table = pa.table({"user": ["a"] * 4, "item": pa.array([1, 2, 3, 4], pa.int32()), "timestamp": [1.0, 2, 3, 4]})
    rules = SampleRules("all", 5, True)
    full, empty = (
        build_tables(log, assign_splits(log, "leave_one_out", None), rules)
        for log in (order_log(table, KEYS), order_log(table.slice(0, 0), KEYS))
    )
    for name in ("sequences", "train", "valid", "test"):
        assert getattr(full, name).schema == getattr(empty, name).schema
        assert getattr(full, name).num_rows == 1 or name == "train"
    assert full.train.schema.field("history").type == pa.list_(pa.int32())
    assert full.train.schema.field("timestamp").type == pa.int64()


def test_timestamps_keep_their_fraction() -> None:
    table = pa.table({"user": ["a", "a"], "item": pa.array([1, 2], pa.int32()), "timestamp": [1.5, 2.25]})
    log = order_log(table, KEYS)
    train = build_tables(log, np.zeros(2, np.int8), SampleRules(1, 5, False)).train
    assert train["timestamp"].to_pylist() == [2.25]


def test_without_timestamps_there_is_no_such_column() -> None:
    table = pa.table({"user": ["a", "a"], "item": pa.array([1, 2], pa.int32()), "position": [1.0, 0.0]})
    log = order_log(table, KEYS)
    train = build_tables(log, np.zeros(2, np.int8), SampleRules(1, 5, True)).train
    assert train.column_names == ["sample_id", "user_id", "history", "target", "position"]
    assert train["target"].to_pylist() == [1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=8))
def test_slices_and_ranges(pairs: list[tuple[int, int]]) -> None:
    values = np.arange(20, dtype=np.int32)
    begin = np.array([pair[0] for pair in pairs], dtype=np.int64)
    end = begin + np.array([pair[1] for pair in pairs], dtype=np.int64)
    assert slices(values, begin, end).to_pylist() == [list(range(b, e)) for b, e in zip(begin, end, strict=True)]
    assert ranges(begin, end - begin).tolist() == [i for b, e in zip(begin, end, strict=True) for i in range(b, e)]


@pytest.mark.parametrize("whole", [True, False])
def test_bins_cover_the_keys(whole: bool) -> None:
    keys = time_keys(np.array([1.0, 2.0, 3.0]), whole)
    places, counts = count_bins(keys, Bins(int(keys[0]), 64 - 16 - 1))
    assert counts.sum() == 3
    assert places.min() == 0
