"""The total order within users."""

from __future__ import annotations

import pyarrow as pa

from pipeline.ingest.sequences import order_log


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


def test_timestamp_then_position_then_item() -> None:
    table = _table([("b", 9, 2, 0, 0), ("a", 5, 1, 1, 0), ("a", 4, 1, 0, 0), ("a", 3, 1, 1, 0), ("a", 9, 0, 7, 0)])
    log = order_log(table)
    assert log.users.to_pylist() == ["a", "b"]
    assert log.items.tolist() == [9, 4, 3, 5, 9]
    assert log.offsets.tolist() == [0, 4, 5]


def test_exact_duplicates_count_once_and_stay_in_the_earliest_split() -> None:
    table = _table([("a", 1, 1, 0, 2), ("a", 1, 1, 0, 0), ("a", 1, 2, 0, 2), ("a", 1, 1, 1, 1)])
    log = order_log(table.drop_columns("position"))
    assert log.items.tolist() == [1, 1]
    assert log.splits is not None
    assert log.splits.tolist() == [0, 2]
    assert len(order_log(table).items) == 3


def test_a_split_against_time_is_counted_and_train_stays_first() -> None:
    log = order_log(_table([("a", 1, 5, 0, 0), ("a", 2, 1, 0, 2), ("b", 1, 1, 0, 0), ("b", 2, 2, 0, 1)]))
    assert log.users_out_of_order == 1
    assert log.items.tolist() == [1, 2, 1, 2]


def test_users_are_ordered_as_text() -> None:
    rows = [(user, 1, 0.0, 0.0, 0) for user in ("10", "9", "é", "z", "A")]
    assert order_log(_table(rows)).users.to_pylist() == sorted(row[0] for row in rows)
