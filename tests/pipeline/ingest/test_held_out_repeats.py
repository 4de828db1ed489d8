from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.held_out_repeats import repeated_targets
from pipeline.ingest.samples import SampleRules, build_tables
from pipeline.ingest.sequences import order_log
from pipeline.ingest.splits import assign_splits
from pipeline.ingest.statistics import IngestTally, shard_facts


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 9)), max_size=40, unique=True),
    split=st.sampled_from(["leave_one_out", "column"]),
)
def test_repeated_targets_are_those_that_the_samples_would_mask(
    rows: list[tuple[int, int, int]], split: Literal["leave_one_out", "column"]
) -> None:
    table = pa.table(
        {
            "user": pa.array([f"u{user}" for user, _, _ in rows], pa.string()),
            "item": pa.array([item for _, item, _ in rows], pa.int32()),
            "timestamp": pa.array([time for _, _, time in rows], pa.float64()),
            "split": pa.array([time // 4 for _, _, time in rows], pa.int8()),
        }
    )
    log = order_log(table if split == "column" else table.drop_columns(["split"]), np.zeros(5, np.uint64))
    splits = assign_splits(log, split, None)
    tables = build_tables(log, splits, SampleRules(1, 5, True))
    masked = [
        sum(target in row["seen"] for row in part.to_pylist() for target in row["targets"])
        for part in (tables.valid, tables.test)
    ]
    assert repeated_targets(log, splits).tolist() == masked
    tally = IngestTally.for_items(4)
    tally.add(pa.table(shard_facts(0, log, splits, tables)))
    assert list(tally.statistics()["repeated_targets"].values()) == masked
