"""Run the stages of a configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, Task, opened_task
from pipeline.api.run_result import Run
from pipeline.driver.run_directory import RunOptions, run_stages


def run(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    from_: str | None = None,
    until: str | None = None,
    fresh: bool = False,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Run:
    """Run all stages and skip those that are complete; the same call continues where an earlier one stopped.

    Parameters
    ----------
    source : the log and the catalogue as a mapping, `{"interactions": ..., "items": ...}`, with paths, URIs, or tables
        of pandas, polars or pyarrow, and any other key of the section `data` (`columns`, `split`, ...); or the path of
        a YAML configuration; or a `Config`; or a `Run` or its directory.
    run_dir : the folder or URI that keeps the results. None takes that of a run, or `runs/NAME` of NAME.yaml. Tables
        in memory are kept in its folder `tables`.
    from_ : a stage to recompute, with all that depends on it.
    until : the last stage to run; None runs all of them.
    fresh : recompute everything.
    overrides : "section.key=value" texts, as the option `--set` takes them, applied to the source.
    progress : True shows progress, in a notebook in one display and elsewhere as lines on standard error. False shows
        none. None shows it in a notebook alone.
    sections : keys of a section that replace those of the source: `select={"size": 0.02}`, `llm={...}`. The file
        `config.yaml` of a run directory lists all of them.

    Returns
    -------
    The run, complete up to `until`.

    Raises `UserError` for what the user can mend: a wrong key, a faulty log, results of another configuration.

    Ray is started for the length of the call unless it is connected already, or `cluster.address` names a cluster.
    After the call this process starts no Ray by itself: connect with `ray.init()` before using Ray's API.

    Examples
    --------
    >>> run = dealrec.run(
    ...     {"interactions": log, "split": "leave_one_out"},
    ...     select={"method": "random", "size": 0.25},
    ...     until="select",
    ...     run_dir="runs/shop",
    ... )
    >>> run.coreset().num_rows
    6
    >>> run.report is None
    True
    """
    with api_call(progress), opened_task(source, run_dir, overrides, sections) as task:
        return _run(task, RunOptions(first=from_, last=until, fresh=fresh))


def run_stage(
    stage: str,
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Run:
    """Run one stage alone, whose inputs must be complete. The parameters are those of `run`."""
    with api_call(progress), opened_task(source, run_dir, overrides, sections) as task:
        return _run(task, RunOptions(only=stage))


def _run(task: Task, options: RunOptions) -> Run:
    run_stages(task.config, task.run, options)
    return task.result
