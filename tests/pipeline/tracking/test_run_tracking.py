"""A run as MLflow's own store and TensorBoard's own reader see it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.storage import Storage
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, StageContext
from pipeline.tracking import run_tracking
from pipeline.tracking.run_tracking import StageProgress, tracked_run
from tests.pipeline.tracking.staged_run import SECRET, STAGES, TRAIN, follow, tracked_config


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A new store in SQLite, artifacts beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shop")
    return MlflowClient()


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    (tmp_path / "run").mkdir()
    return Storage.at(tmp_path / "run")


def runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("shop")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def series(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))


def test_a_run_is_one_run_of_mlflow(mlflow_store: MlflowClient, run: Storage) -> None:
    follow(tracked_config("mlflow", size=24), run)

    (found,) = runs(mlflow_store)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert found.data.params["select.size"] == "24.0"
    assert found.data.params["data.interactions"] == "s3://***@bucket/log"
    assert series(mlflow_store, found, "finetune/train_loss") == list(enumerate(TRAIN, start=1))
    assert series(mlflow_store, found, "finetune/valid_loss") == [(0, 4.5), (3, 2.75)]
    assert series(mlflow_store, found, "surrogate/ndcg_at_10") == [(1, 0.1), (2, 0.2)]
    assert found.data.metrics["select/chosen"] == 24
    assert found.data.metrics["select/seconds"] >= 0
    assert (3, 2.5) in series(mlflow_store, found, "progress/finetune/loss")
    (artifact,) = mlflow_store.list_artifacts(found.info.run_id)
    assert artifact.path == "selection.json"


def test_a_resumed_run_goes_on_in_the_same_run_and_says_nothing_twice(mlflow_store: MlflowClient, run: Storage) -> None:
    config = tracked_config("mlflow")
    follow(config, run, 2)
    follow(config, run)
    follow(config, run)

    (found,) = runs(mlflow_store)
    assert found.info.status == "FINISHED"
    assert series(mlflow_store, found, "surrogate/loss") == [(1, 8.0), (2, 7.0)]
    assert series(mlflow_store, found, "finetune/train_loss") == list(enumerate(TRAIN, start=1))


@pytest.mark.parametrize(("settings", "restart"), [({"seed": 1}, False), ({}, True)])
def test_other_results_are_another_run_with_all_of_its_stages(
    mlflow_store: MlflowClient, run: Storage, settings: dict[str, Any], restart: bool
) -> None:
    follow(tracked_config("mlflow"), run, 2)
    follow(tracked_config("mlflow", **settings), run, restart=restart)

    first, second = runs(mlflow_store)
    assert "finetune/train_loss" not in first.data.metrics
    assert series(mlflow_store, second, "surrogate/loss") == [(1, 8.0), (2, 7.0)]
    assert "finetune/train_loss" in second.data.metrics


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_the_tracker_learns_how_a_run_ended(
    mlflow_store: MlflowClient, run: Storage, error: BaseException, status: str
) -> None:
    def fail(context: StageContext) -> dict[str, Any]:
        raise error

    config, broken = tracked_config("mlflow"), (STAGES[0], replace(STAGES[1], work=fail))
    with pytest.raises(type(error)), tracked_run(config, run) as watcher:
        Graph(broken, config, run).execute(broken, EventLog(run), watcher)
    assert [found.info.status for found in runs(mlflow_store)] == [status]


def test_a_tracker_that_cannot_work_warns_once_and_hides_the_password(
    run: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite://me:{SECRET}@/nowhere/there/mlflow.db")
    with caplog.at_level(logging.WARNING, logger="dealrec.tracking"):
        follow(tracked_config("mlflow", "tensorboard"), run)

    (record,) = [record for record in caplog.records if record.name == "dealrec.tracking"]
    assert "Tracking by mlflow failed" in record.getMessage()
    assert SECRET not in caplog.text
    assert run.exists("model/_manifest.json")
    assert run.list("tensorboard") or run.exists("tracking/tensorboard.json")


def test_a_run_that_the_tracker_no_longer_has_is_said_to_be_gone(
    mlflow_store: MlflowClient, run: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    config = tracked_config("mlflow")
    follow(config, run, 1)
    run.write_json("tracking/mlflow.json", {**run.read_json("tracking/mlflow.json"), "identity": "0" * 32})
    with caplog.at_level(logging.WARNING, logger="dealrec.tracking"):
        follow(config, run)
    assert "remove tracking/mlflow.json" in caplog.text
    assert run.exists("model/_manifest.json")


def test_tensorboard_reads_what_was_written(run: Storage) -> None:
    config = tracked_config("tensorboard")
    follow(config, run, 2)
    follow(config, run)

    (folder,) = Path(run.uri, "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("finetune/train_loss")] == list(enumerate(TRAIN, start=1))
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("surrogate/ndcg_at_10")] == [(1, 0.1), (2, 0.2)]
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "data.interactions: s3://***@bucket/log" in text
    assert SECRET not in text


class Slot:
    """Takes what a stage's progress asks of a tracker."""

    def __init__(self) -> None:
        self.count = 0

    def ask(self, work: object) -> None:
        self.count += 1


def test_progress_is_sent_every_few_seconds_and_at_the_end() -> None:
    slot, now = Slot(), [0.0]
    progress = StageProgress("effort", [slot], clock=lambda: now[0])  # type: ignore[list-item]
    for done in range(1, 101):
        now[0] += 0.5
        progress.update(done, 100, rows=done)
    assert slot.count == 50 / run_tracking._INTERVAL + 1


def test_nothing_is_written_without_a_tracker(run: Storage) -> None:
    follow(tracked_config(), run)
    assert not run.exists("tracking")
