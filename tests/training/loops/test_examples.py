from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from training.loops.examples import Encoded, validation_examples

LIST = pa.list_(pa.int32())


def valid_samples(root: Storage, parts: int) -> None:
    for part in range(parts):
        rows = [user for user in range(30) if user % parts == part]
        table = pa.table(
            {
                "sample_id": pa.array([user * 7919 for user in rows], pa.int64()),
                "user_id": [f"u{user}" for user in rows],
                "history": pa.array([[user, user + 1] for user in rows], LIST),
                "targets": pa.array([[user + 2, user + 3, 1] for user in rows], LIST),
                "seen": pa.array([[user, user + 1] for user in rows], LIST),
            }
        )
        root.write_table(f"samples/valid/part-{part:05d}.parquet", table)


def test_the_first_target_of_drawn_users_whatever_the_parts(tmp_path: Path) -> None:
    drawn = []
    for parts in (1, 4):
        root = Storage.at(tmp_path / str(parts))
        valid_samples(root, parts)
        drawn.append(validation_examples(root, 8, seed=3))
    assert drawn[0].to_pylist() == drawn[1].to_pylist()
    assert len(drawn[0]) == 8
    for row in drawn[0].to_pylist():
        assert row["target"] == row["history"][0] + 2
    assert drawn[0].schema.field("target").type == pa.int32()


def test_all_users_if_more_are_asked_and_another_seed_draws_others(tmp_path: Path) -> None:
    root = Storage.at(tmp_path)
    valid_samples(root, 2)
    assert sorted(validation_examples(root, 99, 0)["user_id"].to_pylist()) == sorted(f"u{u}" for u in range(30))
    assert validation_examples(root, 8, 0)["user_id"] != validation_examples(root, 8, 1)["user_id"]


def test_only_eligible_users_are_drawn(tmp_path: Path) -> None:
    root = Storage.at(tmp_path)
    valid_samples(root, 2)
    drawn = validation_examples(root, 99, 0, lambda sample_id: sample_id < 10 * 7919)
    assert sorted(drawn["user_id"].to_pylist()) == sorted(f"u{u}" for u in range(10))


def test_no_validation_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="validation samples"):
        validation_examples(Storage.at(tmp_path), 1, 0)


def test_all_tokens_start_after_the_first() -> None:
    table = pa.table({"input_ids": pa.array([[4, 5, 6]], LIST), "response_start": pa.array([2], pa.int32())})
    assert Encoded(table, "response")[0].response_tokens == 1
    assert Encoded(table, "all")[0].response_tokens == 2
