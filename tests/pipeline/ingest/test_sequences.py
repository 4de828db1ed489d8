"""The total order within users."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.ingest.sequences import order_log
from scoring.ids import item_keys
from tests.pipeline.ingest.reference import tie_key

#: Whatever the item, so that its index decides: these tests are about what comes before the hash.
NO_HASH = np.zeros(10, np.uint64)


def _table(rows: list[tuple[str, int, float, float, int]]) -> pa.Table:
    users, items, timestamps, positions, splits = zip(*rows, strict=True)
    return pa.table(
        {
            "user": pa.array(users, pa.string()),
            "item": pa.array(items, pa.int32()),
            "timestamp": pa.array(timestamps, pa.float64()),
            "position": pa.array(positions, pa.float64()),
            "split": pa.array(splits, pa.int8()),
        }
    )


def test_timestamp_then_position_then_hash() -> None:
    table = _table([("b", 9, 2, 0, 0), ("a", 5, 1, 1, 0), ("a", 4, 1, 0, 0), ("a", 3, 1, 1, 0), ("a", 9, 0, 7, 0)])
    keys = item_keys([str(index) for index in range(1, 10)])
    log = order_log(table, keys)
    tied = sorted((3, 5), key=lambda item: tie_key("a", str(item), 1.0))
    assert log.users.to_pylist() == ["a", "b"]
    assert log.items.tolist() == [9, 4, *tied, 9]
    assert log.offsets.tolist() == [0, 4, 5]
    assert log.tied.tolist() == [False, False, False, True, False]


def test_the_order_of_ties_says_nothing_about_items_users_or_times() -> None:
    keys = item_keys([str(index) for index in range(1, 6)])
    rows = [(f"u{user}", item, time, 0.0, 0) for user in range(200) for time in (1.0, 2.0, 2.5) for item in (5, 1, 3)]
    log = order_log(_table(rows).drop_columns(["position", "split"]), keys)
    blocks = log.items.reshape(200, 3, 3)
    orders, counts = np.unique(blocks.reshape(-1, 3), axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts.min() > 60  # 600 blocks in six orders: mean 100, standard deviation 9
    alike = (blocks[:, 0] == blocks[:, 1]).all(axis=1).mean()
    assert abs(alike - 1 / 6) < 0.1


def test_exact_duplicates_count_once_and_stay_in_the_earliest_split() -> None:
    table = _table([("a", 1, 1, 0, 2), ("a", 1, 1, 0, 0), ("a", 1, 2, 0, 2), ("a", 1, 1, 1, 1)])
    log = order_log(table.drop_columns("position"), NO_HASH)
    assert log.items.tolist() == [1, 1]
    assert log.splits is not None
    assert log.splits.tolist() == [0, 2]
    assert len(order_log(table, NO_HASH).items) == 3


def test_a_split_against_time_is_counted_and_train_stays_first() -> None:
    log = order_log(_table([("a", 1, 5, 0, 0), ("a", 2, 1, 0, 2), ("b", 1, 1, 0, 0), ("b", 2, 2, 0, 1)]), NO_HASH)
    assert log.users_out_of_order == 1
    assert log.items.tolist() == [1, 2, 1, 2]


def test_users_are_ordered_as_text() -> None:
    rows = [(user, 1, 0.0, 0.0, 0) for user in ("10", "9", "é", "z", "A")]
    assert order_log(_table(rows), NO_HASH).users.to_pylist() == sorted(row[0] for row in rows)
