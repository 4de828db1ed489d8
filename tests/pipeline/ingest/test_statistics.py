"""Totals over shards."""

from __future__ import annotations

from collections import Counter
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.ingest_spec import SplitName
from pipeline.ingest.notices import warnings_of
from pipeline.ingest.samples import SampleRules, build_tables
from pipeline.ingest.sequences import order_log
from pipeline.ingest.splits import TimeCuts, assign_splits
from pipeline.ingest.statistics import IngestTally, length_summary, shard_facts, tie_counts
from pipeline.ingest.statistics_record import LogTotals


def _facts(shard: int, items: list[int]) -> pa.Table:
    count = len(items)
    log = order_log(
        pa.table(
            {
                "user": pa.array([f"u{shard}"] * count, pa.string()),
                "item": pa.array(items, pa.int32()),
                "timestamp": np.arange(count, dtype=np.float64),
            }
        ),
        np.zeros(6, np.uint64),
    )
    splits = assign_splits(log, "leave_one_out", None)
    return pa.table(shard_facts(shard, log, splits, build_tables(log, splits, SampleRules(1, 5, True))))


def test_shards_add_up() -> None:
    tally = IngestTally.for_items(5)
    for facts in (_facts(0, [1, 2, 3, 4]), _facts(2, [2, 5]), _facts(1, [])):
        tally.add(facts)
    statistics = tally.statistics()
    assert tally.shards == {0, 1, 2}
    assert tally.item_counts.tolist() == [[0, 1, 2, 0, 0, 1], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    assert statistics["users"] == 2
    assert statistics["interactions"] == {"train": 4, "valid": 1, "test": 1}
    assert statistics["samples"] == {"train": 2, "valid": 1, "test": 1}
    assert statistics["cold_targets"] == {"valid": 1, "test": 1}
    assert statistics["users_with_fewer_than_3"] == 1
    assert statistics["sequence_length"] == {"mean": 3.0, "median": 3.0, "max": 4}
    assert statistics["longest_user"] == "u0"


@pytest.mark.parametrize(
    ("most", "users", "told"),
    [(360, 60, True), (50_000, 10_000, True), (100, 60, False), (4_000, 10_000, False), (9, 1, False)],
)
def test_one_user_who_is_hardly_a_person_is_told(most: int, users: int, told: bool) -> None:
    tally = IngestTally.for_items(5)
    tally.lengths.update({most: 1, 10: users - 1})
    tally.longest = (-most, "anonymous")
    totals = tally.statistics()
    interactions = {**totals["interactions"], "read": 0, "kept": most + 10 * (users - 1)}
    statistics = cast("LogTotals", {**totals, "split": "global_time", "interactions": interactions})
    warnings = [warning for warning in warnings_of(statistics) if "User 'anonymous' has" in warning]
    assert len(warnings) == told
    assert all("data.null_values: ['anonymous'] and data.missing_id: drop" in warning for warning in warnings)


def _tie_counts(times: dict[str, list[int]], split: SplitName) -> list[int]:
    users = [user for user, values in times.items() for _ in values]
    flat = [float(time) for values in times.values() for time in values]
    items = pa.array(range(1, len(flat) + 1), pa.int32())
    log = order_log(
        pa.table({"user": users, "item": items, "timestamp": flat}), np.arange(len(flat) + 1, dtype=np.uint64)
    )
    return tie_counts(log, assign_splits(log, split, TimeCuts(2, 3))).tolist()


def test_ties_are_counted() -> None:
    times = {"a": [1, 1, 1, 2], "b": [1, 2, 3, 3], "c": [1, 2, 2], "d": [5, 5], "e": [7]}
    # Interactions with the same time: a has 3, and b, c and d have 2 each.
    # Validation of a ties with train; test of b and of c ties with validation.
    assert _tie_counts(times, "leave_one_out") == [9, 5, 9, 3, 3]
    # In a split by time nothing held out can tie with train, because a cut keeps equal times together.
    assert _tie_counts(times, "global_time") == [9, 5, 9, 0, 1]
    assert _tie_counts({}, "leave_one_out") == [0, 0, 0, 0, 0]


def test_a_shard_in_two_blocks_is_a_fault() -> None:
    tally = IngestTally.for_items(5)
    tally.add(_facts(0, [1]))
    with pytest.raises(RuntimeError, match="shard 0"):
        tally.add(_facts(0, [2]))


@given(st.lists(st.integers(1, 30), min_size=1))
def test_lengths_are_summed_up_exactly(lengths: list[int]) -> None:
    summary = length_summary(Counter(lengths))
    assert summary["median"] == np.median(lengths)
    assert summary["mean"] == pytest.approx(np.mean(lengths))
    assert summary["max"] == max(lengths)
