from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.progress import LineProgress
from cluster.storage import Storage
from pipeline.engine.config_file import parse_config
from pipeline.engine.graph import StageContext
from pipeline.stages.reference_period import ReferencePeriod, reference_period
from scoring.ids import sample_ids
from scoring.validation_halves import in_aimed_half

_LISTS = pa.list_(pa.int32())


def context(folder: Path, reference: object) -> StageContext:
    run = Storage.at(folder)
    config = parse_config({"data": {"interactions": "x"}, "select": {"reference": reference}}, "c")
    return StageContext(config, run, run.child("coreset"), {"ingest": run.child("data")}, LineProgress("select"))


def test_every_validation_target_is_a_sample_with_the_id_of_its_place(tmp_path: Path) -> None:
    stage = context(tmp_path, "valid")
    rows = {
        "sample_id": pa.array(sample_ids(["ann", "bob"], [3, 2])),
        "user_id": pa.array(["ann", "bob"]),
        "history": pa.array([[2, 3], [5, 6]], _LISTS),
        "targets": pa.array([[7, 8, 9], [1]], _LISTS),
        "seen": pa.array([[1, 2, 3], [5, 6]], _LISTS),
    }
    stage.run.write_table("data/samples/valid/part-00000.parquet", pa.table(rows))
    table = rows_of(reference_period(stage))
    found = {row["sample_id"]: (row["user_id"], row["history"], row["target"]) for row in table.to_pylist()}
    ids = sample_ids(["ann", "ann", "ann", "bob"], [3, 4, 5, 2]).tolist()
    samples = [("ann", [2, 3], 7), ("ann", [2, 3], 8), ("ann", [2, 3], 9), ("bob", [5, 6], 1)]
    assert found == dict(zip(ids, samples, strict=True))


def test_half_of_the_users_are_aimed_at_and_the_others_left(tmp_path: Path) -> None:
    whole, users = context(tmp_path, "valid"), [f"u{number}" for number in range(200)]
    rows = {
        "sample_id": pa.array(sample_ids(users, [3] * 200)),
        "user_id": pa.array(users),
        "history": pa.array([[2, 3]] * 200, _LISTS),
        "targets": pa.array([[7, 8]] * 200, _LISTS),
        "seen": pa.array([[1, 2, 3]] * 200, _LISTS),
    }
    whole.run.write_table("data/samples/valid/part-00000.parquet", pa.table(rows))
    select = whole.config.select.model_copy(update={"reference_users": "half"})
    half = replace(whole, config=whole.config.model_copy(update={"select": select}))
    found = set(rows_of(reference_period(half)).column("user_id").to_pylist())
    assert 70 < len(found) < 130
    aimed = in_aimed_half(pa.table(rows).column("sample_id").to_numpy())
    assert found == {user for user, chosen in zip(users, aimed, strict=True) if chosen}
    assert reference_period(half).samples == rows_of(reference_period(half)).num_rows == 2 * len(found)
    assert reference_period(whole).samples == 400


def test_the_last_share_of_train_is_found_over_all_shards(tmp_path: Path) -> None:
    times = np.random.default_rng(0).permutation(100).astype(np.int64) - 20
    stage = timed(tmp_path, times, 0.3)
    period = reference_period(stage)
    found = sorted(rows_of(period).column("sample_id").to_pylist())
    assert found == sorted(np.argsort(times)[-30:].tolist())
    assert period.warnings == ()


def test_equal_times_are_not_parted_and_it_is_said(tmp_path: Path) -> None:
    times = np.repeat(np.array([3, 8], dtype=np.int64), 50)
    period = reference_period(timed(tmp_path / "two", times, 0.1))
    assert period.samples == 50
    assert "50% of the train samples" in period.warnings[0]
    with pytest.raises(UserError, match=r"select.reference: 0.1 .* all 100 of them"):
        reference_period(timed(tmp_path / "one", times * 0, 0.1))


def test_a_half_without_users_is_named(tmp_path: Path) -> None:
    stage = context(tmp_path, "valid")
    users = [f"u{number}" for number in range(50)]
    ids = sample_ids(users, [1] * 50)
    left = int(np.flatnonzero(~in_aimed_half(ids))[0])
    rows = {
        "sample_id": pa.array(ids[left : left + 1]),
        "user_id": pa.array(users[left : left + 1]),
        "history": pa.array([[2]], _LISTS),
        "targets": pa.array([[7, 8]], _LISTS),
        "seen": pa.array([[2]], _LISTS),
    }
    stage.run.write_table("data/samples/valid/part-00000.parquet", pa.table(rows))
    select = stage.config.select.model_copy(update={"reference_users": "half"})
    with pytest.raises(UserError, match="that half is empty: all 2 validation targets"):
        reference_period(replace(stage, config=stage.config.model_copy(update={"select": select})))


@pytest.mark.parametrize(
    ("keys", "aimed", "remedy"),
    [
        ({"method": "goracs"}, "select.method: goracs is aimed", "Set select.method: dealrec or random"),
        ({"influence": "reference"}, "select.influence: reference is aimed", "Set select.influence: scores"),
    ],
)
def test_a_log_without_validation_names_what_is_aimed_at_it(
    tmp_path: Path, keys: dict[str, str], aimed: str, remedy: str
) -> None:
    stage = context(tmp_path, "valid")
    select = stage.config.select.model_copy(update=keys)
    with pytest.raises(UserError, match=aimed) as caught:
        reference_period(replace(stage, config=stage.config.model_copy(update={"select": select})))
    assert remedy in caught.value.remedy


def rows_of(period: ReferencePeriod) -> pa.Table:
    return pa.concat_tables(list(map(period.table, period.indices())))


def timed(folder: Path, times: np.ndarray, share: float) -> StageContext:
    """Train samples at those times in several shards, one of them empty."""
    stage = context(folder, share)
    stage.run.write_json("data/statistics.json", {"samples": {"train": len(times)}})
    for index, part in enumerate(np.split(np.arange(100), [30, 30, 90])):
        rows = {
            "sample_id": pa.array(part.astype(np.int64)),
            "user_id": pa.array([f"u{row}" for row in part], pa.string()),
            "history": pa.array([[1]] * len(part), _LISTS),
            "target": pa.array([2] * len(part), pa.int32()),
            "timestamp": pa.array(times[part]),
        }
        stage.run.write_table(f"data/samples/train/part-{index:05d}.parquet", pa.table(rows))
    return stage
