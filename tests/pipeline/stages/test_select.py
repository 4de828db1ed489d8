from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.progress import LineProgress
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.config_file import parse_config
from pipeline.graph import StageContext
from pipeline.stages.select import run_select
from pipeline.tables import score_table

SHARDS, ROWS = 3, 20


def context(folder: Path, **select: object) -> StageContext:
    """Three shards of 20 samples; in each, row 0 has no finite influence and row 1 was skipped for effort."""
    run = Storage.at(folder)
    generator = np.random.default_rng(0)
    for index in range(SHARDS):
        ids = np.arange(index * ROWS, (index + 1) * ROWS, dtype=np.int64)
        samples = {
            "sample_id": pa.array(ids),
            "user_id": pa.array([f"u{i}" for i in ids]),
            "history": pa.array([[1, 2]] * ROWS, pa.list_(pa.int32())),
            "target": pa.array([3] * ROWS, pa.int32()),
        }
        run.write_table(f"data/samples/train/{shard_name(index)}.parquet", pa.table(samples))
        influence, effort = generator.normal(size=(2, ROWS)).astype(np.float32)
        influence[0] = np.nan
        skipped = np.arange(ROWS) == 1
        effort[1] = np.nan
        none = np.zeros(ROWS, dtype=np.bool_)
        run.write_table(f"i/{shard_name(index)}.parquet", score_table(ids, "influence", influence, none))
        run.write_table(f"e/{shard_name(index)}.parquet", score_table(ids, "effort", effort, skipped))
    config = parse_config({"data": {"interactions": "x"}, "select": select}, "c")
    folders = {"ingest": run.child("data"), "influence": run.child("i"), "effort": run.child("e")}
    return StageContext(config, run, run.child("coreset"), folders, LineProgress("select"))


def test_only_rows_that_are_ok_in_both_scores_are_chosen(tmp_path: Path) -> None:
    stage = context(tmp_path, size=50, hard_prune=0.0)
    facts = run_select(stage)
    assert facts["usable"] == SHARDS * (ROWS - 2)
    coreset = stage.out.read_table("coreset.parquet")
    ids = coreset.column("sample_id").to_numpy()
    assert len(ids) == 50
    assert set(ids % ROWS) <= set(range(2, ROWS))
    assert coreset.column_names == [
        "sample_id",
        "user_id",
        "history",
        "target",
        "influence",
        "effort",
        "score",
        "stratum",
    ]
    assert coreset.column("user_id").to_pylist() == [f"u{i}" for i in ids]


def test_random_may_choose_any_row(tmp_path: Path) -> None:
    stage = context(tmp_path, size=SHARDS * ROWS, method="random")
    run_select(stage)
    assert stage.out.read_table("coreset.parquet").num_rows == SHARDS * ROWS


def test_more_samples_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"select.size: .*61.*60"):
        run_select(context(tmp_path, size=SHARDS * ROWS + 1))
