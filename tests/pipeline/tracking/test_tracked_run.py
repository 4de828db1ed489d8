"""A whole run of the pipeline as MLflow has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.manifest import read_manifest
from pipeline.stages.stage_list import STAGES
from tests.small_run import SmallRun


def test_a_run_is_tracked_after_the_fact_and_as_it_runs(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    shutil.copytree(small_run.folder / "run", tmp_path / "run")
    run, client = Storage.at(tmp_path / "run"), MlflowClient()
    before = {stage.name: read_manifest(run.child(*stage.folder.split("/"))) for stage in STAGES}
    command = ["run", str(small_run.config), "--run-dir", run.uri, "--set", "track=mlflow"]

    assert main(command) == 0
    assert main([*command, "--from", "report"]) == 0

    experiment = client.get_experiment_by_name("dealrec")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    assert [entry.info.status for entry in found] == ["FINISHED", "FINISHED"]
    losses, metrics = run.read_json("model/losses.json"), run.read_json("eval/metrics.json")
    for entry in found:
        # The second holds what was kept, beside the report that was made again.
        history = client.get_metric_history(entry.info.run_id, "finetune/train_loss")
        assert [metric.value for metric in sorted(history, key=lambda metric: metric.step)] == losses["train"]
        last = entry.data.metrics
        assert last["evaluate/tuned/ndcg_at_10"] == metrics["models"][metrics["focus"]]["ndcg@10"]["mean"]
        assert {f"{stage.name}/seconds" for stage in STAGES} <= set(last)
        assert {artifact.path for artifact in client.list_artifacts(entry.info.run_id)} == {
            "report.html",
            "selection.json",
        }
    for stage in STAGES:
        after = read_manifest(run.child(*stage.folder.split("/")))
        assert after is not None
        assert stage.name == "report" or after == before[stage.name]
