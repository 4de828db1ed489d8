"""Forecast the time, memory and cost of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, opened_task
from pipeline.studies.forecast.plan_rows import RunPlan, StageForecast


@dataclass(frozen=True)
class PlannedStage:
    """What one stage is expected to take.

    Attributes
    ----------
    stage : its name.
    seconds, fixed : wall time, and the part of it that does not grow with the log.
    workers : processes that work on it.
    memory : GiB that one worker holds.
    cpu_hours, gpu_hours, cost : what the workers occupy, and its price by `cluster.cpu_price` and `cluster.gpu_price`.
    basis : what the forecast rests on.
    """

    stage: str
    seconds: float
    fixed: float
    workers: int
    memory: float
    cpu_hours: float
    gpu_hours: float
    cost: float
    basis: str

    @classmethod
    def of(cls, row: StageForecast) -> PlannedStage:
        """Read the stage of a row of the record."""
        return cls(
            stage=row["stage"],
            seconds=row["seconds"],
            fixed=row["fixed"],
            workers=row["workers"],
            memory=row["memory GiB"],
            cpu_hours=row["CPU h"],
            gpu_hours=row["GPU h"],
            cost=row["cost"],
            basis=row["basis"],
        )


@dataclass(frozen=True)
class Plan:
    """The forecast of a run. All of it is a view of one record, which `dealrec plan --json` prints.

    Attributes
    ----------
    record : that record, the sizes of the log included.
    """

    record: RunPlan = field(repr=False)

    @property
    def stages(self) -> tuple[PlannedStage, ...]:
        """A row for each stage."""
        return tuple(PlannedStage.of(row) for row in self.record["stages"])

    @property
    def seconds(self) -> float:
        """The wall time of all stages together."""
        return self.record["total"]["seconds"]

    @property
    def cost(self) -> float:
        """The cost of all stages together."""
        return self.record["total"]["cost"]

    @property
    def dominating(self) -> str:
        """The stage that takes longest."""
        return self.record["total"]["dominating"]

    def table(self) -> pa.Table:
        """Return the stages as a table, a column for each attribute of `PlannedStage`."""
        return pa.Table.from_pylist([asdict(stage) for stage in self.stages])


def plan(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    users: int = 4000,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Plan:
    """Run all stages on a share of the log, and forecast the whole run from their times.

    Parameters
    ----------
    source, run_dir, overrides, progress, sections : as for `dealrec.run`; the share is kept in the folder `plan` of the
        run directory.
    users : users of the share.

    Raises `UserError` as `dealrec.run` does, and for a machine or cluster that cannot hold the stages.

    Examples
    --------
    >>> expected = dealrec.plan("shop.yaml", users=2000)  # doctest: +SKIP
    >>> expected.dominating  # doctest: +SKIP
    'finetune'
    """
    from pipeline.studies.forecast.predict import plan_run

    with api_call(progress), opened_task(source, run_dir, overrides, sections) as task:
        return Plan(plan_run(task.config, task.run, users))
