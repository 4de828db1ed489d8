"""MLflow: a local store, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.tracking.tracker import PROJECT, Ending, Figures, TrackedRun

#: What the REST API takes in one request, and the characters of a value.
_PARAMS, _METRICS, _VALUE = 100, 1000, 6000
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker:
    """A run of MLflow in the experiment MLFLOW_EXPERIMENT_NAME, `dealrec` by default."""

    def __init__(self, tracked: TrackedRun) -> None:
        # MLflow reports its use to its makers unless told not to; what the user has set stays.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        # It announces every new store.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client = MlflowClient()
        if tracked.identity is not None:
            self._id = tracked.identity
            self._client.update_run(self._id, status="RUNNING")
            return
        run = self._client.create_run(self._experiment(), run_name=tracked.name)
        self._id = str(run.info.run_id)
        params = [Param(key, value[:_VALUE]) for key, value in tracked.params.items()]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _PARAMS])

    @property
    def identity(self) -> str:
        return self._id

    def log(self, group: str, rows: Sequence[Figures]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(f"{group}/{name}", value, now, row.step) for row in rows for name, value in row.values.items()
        ]
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _METRICS])

    def keep(self, file: Path) -> None:
        self._client.log_artifact(self._id, str(file))

    def close(self, ending: Ending) -> None:
        self._client.set_terminated(self._id, _STATUS[ending])

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))
