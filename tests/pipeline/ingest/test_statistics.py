"""Totals over shards."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.samples import SampleRules, build_tables
from pipeline.ingest.sequences import order_log
from pipeline.ingest.splits import assign_splits
from pipeline.ingest.statistics import Tally, length_summary, shard_facts


def _facts(shard: int, items: list[int]) -> pa.Table:
    count = len(items)
    log = order_log(
        pa.table(
            {
                "user": pa.array([f"u{shard}"] * count, pa.string()),
                "item": pa.array(items, pa.int32()),
                "timestamp": np.arange(count, dtype=np.float64),
            }
        )
    )
    splits = assign_splits(log, "leave_one_out", None)
    return pa.table(shard_facts(shard, log, splits, build_tables(log, splits, SampleRules(1, 5, True))))


def test_shards_add_up() -> None:
    tally = Tally.for_items(5)
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


def test_a_shard_in_two_blocks_is_a_fault() -> None:
    tally = Tally.for_items(5)
    tally.add(_facts(0, [1]))
    with pytest.raises(RuntimeError, match="shard 0"):
        tally.add(_facts(0, [2]))


@given(st.lists(st.integers(1, 30), min_size=1))
def test_lengths_are_summed_up_exactly(lengths: list[int]) -> None:
    summary = length_summary(Counter(lengths))
    assert summary["median"] == np.median(lengths)
    assert summary["mean"] == pytest.approx(np.mean(lengths))
    assert summary["max"] == max(lengths)
