"""Runs from tables in memory, and what a finished run gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import ray
from safetensors.numpy import load_file

import dealrec
from cluster.storage import Storage
from tests.small_log import small_log
from tests.small_run import SmallRun

SMALL: dict[str, Any] = {
    "samples": {"per_user": "all", "max_history": 8},
    "select": {"method": "random", "size": 12},
    "cluster": {"actors": 1, "gpus": 0},
}


def test_a_table_runs_resumes_and_is_refused_once_it_changes(
    ray_local: None, plain_logging: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = small_log()
    where = tmp_path / "run"
    before = dict(os.environ)
    source = {"interactions": log.to_pandas(), "split": "leave_one_out"}
    run = dealrec.run(source, until="ingest", run_dir=where, **SMALL)
    assert [stage.stage for stage in run.stages()] == ["ingest"]
    assert (run.metrics(), run.report) == ({}, None)
    assert any("leave_one_out" in warning for warning in run.warnings)
    with pytest.raises(dealrec.UserError, match=r"dealrec\.run\(config, run_dir=.*until='select'\)"):
        run.coreset()
    with pytest.raises(dealrec.UserError, match="surrogate is not complete"):
        next(dealrec.load_run(where).gradients())

    again = dealrec.run({**source, "interactions": pl.from_arrow(log)}, until="ingest", run_dir=where, **SMALL)
    assert again.stages() == run.stages()
    with pytest.raises(dealrec.UserError, match=r"1 changed \(interactions.parquet\)"):
        dealrec.run({**source, "interactions": log.slice(1)}, until="ingest", run_dir=where, **SMALL)
    assert len(list((where / "tables").iterdir())) == 1
    changed = dealrec.run({**source, "interactions": log.slice(1)}, until="ingest", run_dir=where, fresh=True, **SMALL)
    assert [folder.name for folder in (where / "tables").iterdir()] == [
        Path(changed.config.data.interactions).parent.name
    ]
    assert ray.is_initialized()
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


def test_a_finished_run_gives_its_coreset_metrics_and_report(small_run: SmallRun) -> None:
    run = dealrec.load_run(small_run.folder / "run")
    coreset, log = run.coreset(), small_log()
    assert coreset.num_rows == 24
    titles = dict(zip(log["item_id"].to_pylist(), log["title"].to_pylist(), strict=True))
    rows = log.to_pandas().sort_values("timestamp", kind="stable").groupby("user_id")["item_id"].agg(list)
    for row in coreset.to_pylist():
        assert row["target_title"] == titles[row["target"]]
        walk, path = rows[row["user_id"]], [*row["history"], row["target"]]
        assert any(walk[start : start + len(path)] == path for start in range(len(walk)))
    metrics = run.metrics()
    assert len(metrics) > 2
    assert all(value["ndcg@10"].low <= value["ndcg@10"].mean <= value["ndcg@10"].high for value in metrics.values())
    assert run.report is not None
    assert Path(run.report).read_text(encoding="utf-8").startswith("<!")
    assert run.scores("influence").num_rows == run.scores("effort").num_rows > 24
    assert "influence" in run._repr_html_()


def test_gradients_need_no_folder_and_give_the_influence(small_run: SmallRun, tmp_path: Path) -> None:
    folder = small_run.folder / "run"
    before = sorted(path for path in folder.rglob("*"))
    run = dealrec.load_run(folder)
    direction = load_file(folder / "scores" / "influence" / "_direction.safetensors")["direction"]
    scores = run.scores("influence")
    expected = dict(zip(scores["sample_id"].to_pylist(), scores["influence"].to_pylist(), strict=True))
    found: dict[int, float] = {}
    for batch in run.gradients():
        gradients = np.stack(batch.column("gradient").to_numpy(zero_copy_only=False))
        found |= dict(zip(batch.column("sample_id").to_pylist(), (gradients @ direction).tolist(), strict=True))
    assert set(found) == set(expected)
    scale = float(np.sqrt(np.mean(np.square(list(expected.values())))))
    assert max(abs(found[key] - expected[key]) for key in expected) < 1e-4 * scale
    some = [batch.num_rows for batch in run.gradients(shards=[0, 1])]
    assert sum(some) < len(expected)
    with pytest.raises(dealrec.UserError, match="no train shard 99"):
        next(run.gradients(shards=[99]))
    with pytest.raises(dealrec.UserError, match="no_such"):
        next(run.gradients("no_such"))
    assert sorted(path for path in folder.rglob("*")) == before


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(dealrec.UserError, match="not the directory of a run"):
        dealrec.load_run(Storage.at(tmp_path).uri)
