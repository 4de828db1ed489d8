"""Whom a comparison asks, whom its arms are stopped by, and what its slices hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.storage import Storage
from pipeline.engine.config_file import parse_config
from pipeline.stages.finetune_stage import stopping_users
from pipeline.stages.reference_period import ReferencePeriod
from pipeline.studies.compare.arms import Arm, arm_config
from pipeline.studies.compare.compared_users import masking_notices, read_users, target_slices
from training.loops.examples import validation_examples

CONFIG = parse_config({"data": {"interactions": "x"}, "evaluate": {"users": "all"}}, "c")
USERS = 40


def users_table(targets: list[list[int]]) -> pa.Table:
    ids = 7919 * np.arange(1, len(targets) + 1, dtype=np.int64)
    lists = pa.list_(pa.int32())
    return pa.table(
        {
            "sample_id": ids,
            "user_id": [f"u{sample}" for sample in ids],
            "history": pa.array([[1]] * len(targets), lists),
            "targets": pa.array(targets, lists),
            "seen": pa.array([[1]] * len(targets), lists),
        }
    )


@pytest.fixture
def data(tmp_path: Path) -> Storage:
    """Items 1 to 6, of which train has never seen 5 and 6; validation has 2 most often, then 5, then 3."""
    folder = Storage.at(tmp_path)
    folder.write_table("items.parquet", pa.table({"count": pa.array([9, 1, 4, 2, 0, 0], pa.int64())}))
    targets = [[2]] * 20 + [[5, 2]] * 15 + [[3]] * 5
    folder.write_table("samples/valid/part-00000.parquet", users_table(targets))
    folder.write_table("samples/test/part-00000.parquet", users_table([[4], [6, 1]]))
    return folder


def test_no_one_is_both_aimed_at_and_chosen_by(data: Storage) -> None:
    aimed = ReferencePeriod(data, half=True, since=None).table(0)["user_id"].to_pylist()
    chosen_by = read_users(CONFIG, data)["valid"]
    whole = users_table([[2]] * USERS)["user_id"].to_pylist()
    assert 0 < len(set(aimed)) < USERS
    assert len(chosen_by) == USERS - len(set(aimed))
    table = data.read_table("samples/valid/part-00000.parquet")
    others = table.filter(pa.array([user not in set(aimed) for user in whole]))
    assert sorted(chosen_by.targets.values) == sorted(np.concatenate(others["targets"].to_numpy()))


def test_every_arm_of_the_llm_is_stopped_by_users_that_no_one_aims_at(data: Storage) -> None:
    aimed = set(ReferencePeriod(data, half=True, since=None).table(0)["user_id"].to_pylist())
    stopped_by = []
    for selector in ("random", "dealrec", "density_ratio+reference=0.1", "reference_popularity"):
        arm = arm_config(CONFIG, Arm(selector, 8, 0))
        stopped_by.append(validation_examples(data, 512, 0, stopping_users(arm))["user_id"].to_pylist())
    assert all(users == stopped_by[0] for users in stopped_by)
    assert len(stopped_by[0]) == USERS - len(aimed)
    assert not aimed & set(stopped_by[0])
    # A run of its own is stopped by all.
    assert len(validation_examples(data, 512, 0, stopping_users(CONFIG))) == USERS


def test_masked_repeats_are_told_with_their_key(data: Storage) -> None:
    """Of the three test targets one has been seen; then all of them."""
    assert masking_notices(read_users(CONFIG, data)) == []
    data.write_table("samples/test/part-00000.parquet", users_table([[1], [1, 1]]))
    (notice,) = masking_notices(read_users(CONFIG, data))
    assert notice.startswith("3 of 3 test targets (100%)")
    assert "evaluate.mask_seen" in notice
    shown = parse_config({"data": {"interactions": "x"}, "evaluate": {"users": "all", "mask_seen": False}}, "c")
    assert masking_notices(read_users(shown, data)) == []


def test_slices_go_by_train_and_by_the_validation_period(data: Storage) -> None:
    targets = np.arange(1, 7, dtype=np.int32)
    slices = {name: targets[chosen].tolist() for name, chosen in target_slices(data, targets).items()}
    assert slices == {
        "warm": [1, 2, 3, 4],
        "cold": [5, 6],
        "without the 1 most popular": [1, 3, 4, 5, 6],
        "without the 20 most popular": [1, 4, 6],
        "without the 100 most popular": [1, 4, 6],
    }
    assert "cold" not in target_slices(data, targets[:4])
