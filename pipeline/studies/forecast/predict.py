"""`dealrec plan`: time, memory and cost of each stage, before any of them runs on the whole log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cluster.digest import json_digest
from cluster.errors import UserError
from cluster.machine_checks import require
from cluster.storage import Storage
from pipeline.driver.run_directory import session
from pipeline.engine.config import Config
from pipeline.ingest.log_survey import shard_count
from pipeline.preflight.before_run import check_before_run
from pipeline.preflight.resource_plan import StagePlan, resource_plan
from pipeline.stages.evaluate_stage import USERS_PER_CHUNK
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.stages.stage_list import all_stages, log_identity, stage_names_of
from pipeline.stages.worker_pools import cluster_view
from pipeline.studies.forecast.laws import Forecast, forecasts, total
from pipeline.studies.forecast.measure import Measured, RunSize, llm_side, measure, surrogate_side, whole_scale
from pipeline.studies.forecast.plan_rows import RunPlan, StageForecast
from pipeline.studies.forecast.share import LogSize, share_config, write_shares

#: Users in the share that times the LLM's stages.
_LLM_USERS = 256
_SHARDS_PER_WORKER = 2


def plan_run(config: Config, run: Storage, users: int) -> RunPlan:
    """Measure a share of `users` users in the run's folder `plan`, and forecast the whole.

    The share is kept: an interrupted plan resumes, and the same rates serve to plan for another cluster.

    Returns
    -------
    `stages`, one row each (seconds, seconds that do not grow, workers, memory, hours of CPUs and GPUs, cost, basis),
    `total` (seconds, dominating stage, cost), `log` (sizes) and `share`.

    Raises `UserError` for a log that cannot be read and a cluster that cannot hold the stages.
    """
    if users < 1:
        raise UserError(f"--users must be at least 1, got {users}.", "Give some thousand, or as many as there are.")
    folder = run.child("plan")
    names = stage_names_of(config)
    every = [stage.name for stage in all_stages(config)]
    check_before_run(config, every)
    with session(config):
        view = cluster_view(config)
        plans, lacks = resource_plan(config, view, every)
        require(lacks)
        size = _write_shares(config, folder, users)
        now = {plan.stage: max(1, plan.now) for plan in plans if plan.kind == "pool"}
        shards = _SHARDS_PER_WORKER * max(now.values())
        samples = _share_samples(config, size, users)
        users_config = surrogate_side(share_config(config, folder.child("users")), shards, samples)
        large = measure(users_config, folder.child("large"), "select")
        few, test_users = share_config(config, folder.child("few")), USERS_PER_CHUNK * now["evaluate"]
        few_samples = _share_samples(config, size, min(users, _LLM_USERS))
        small = measure(llm_side(few, shards, few_samples, test_users), folder.child("small"))
    whole = whole_scale(large.scale, size.interactions, size.users, size.items, config.surrogate.valid_users)
    plans = _with_work(config, plans, whole)
    pools = {plan.stage: plan.workers for plan in plans if plan.kind == "pool"}
    rows = [row for row in forecasts(config, large, small, whole, pools) if row.stage in names]
    return {
        "stages": [_row(config, row, plans) for row in rows],
        "total": {**total(rows), "cost": sum(_cost(config, row, plans)[2] for row in rows)},
        "log": {
            "interactions": whole.interactions,
            "users": whole.users,
            "items": whole.items,
            "samples": whole.samples,
        },
        "share": {"users": large.scale.users, "seconds": _spent(large) + _spent(small)},
    }


def _write_shares(config: Config, folder: Storage, users: int) -> LogSize:
    """Write both shares and the sizes of the log, unless they exist already."""
    key = {"users": users, "data": config.data.model_dump(mode="json"), "log": json_digest(log_identity(config))}
    if folder.exists("log.json") and folder.read_json("log.json")["key"] == key:
        return LogSize(**folder.read_json("log.json")["size"])
    for name in ("users", "few", "large", "small"):
        folder.delete(name)
    size = write_shares(config, users, folder.child("users"), min(users, _LLM_USERS), folder.child("few"))
    folder.write_json("log.json", {"key": key, "size": size.__dict__})
    return size


def _share_samples(config: Config, size: LogSize, users: int) -> int:
    """Estimate the number of train samples of the share."""
    drawn, mean = min(users, size.users), size.interactions / max(1, size.users)
    per_user = config.samples.per_user
    return max(1, round(drawn * (mean if per_user == "all" else min(mean, per_user))))


def _with_work(config: Config, plans: Sequence[StagePlan], whole: RunSize) -> list[StagePlan]:
    """Limit the workers of each pool to the number of shards, as a run does."""
    shards = config.samples.shards or shard_count(whole.interactions, whole.users, config.samples.per_user)
    users = whole.test_users if config.evaluate.users == "all" else config.evaluate.users
    scoring = dict.fromkeys(("influence", "effort", *FEATURE_NAMES), shards)
    tasks = {**scoring, "evaluate": math.ceil(users / USERS_PER_CHUNK)}
    return [replace(plan, workers=min(plan.workers, tasks.get(plan.stage, plan.workers))) for plan in plans]


def _row(config: Config, row: Forecast, plans: Sequence[StagePlan]) -> StageForecast:
    cpu_hours, gpu_hours, cost = _cost(config, row, plans)
    return {
        "stage": row.stage,
        "seconds": round(row.seconds, 2),
        "fixed": round(row.fixed, 2),
        "workers": next((plan.workers for plan in plans if plan.stage == row.stage), 1),
        "memory GiB": round(row.memory / 2**30, 2),
        "CPU h": round(cpu_hours, 3),
        "GPU h": round(gpu_hours, 3),
        "cost": round(cost, 2),
        "basis": row.basis,
    }


def _cost(config: Config, row: Forecast, plans: Sequence[StagePlan]) -> tuple[float, float, float]:
    """Return the CPU and GPU hours that the stage's workers hold (the driver: one CPU), and their price."""
    plan = next((plan for plan in plans if plan.stage == row.stage), None)
    hours = row.seconds / 3600
    cpus = plan.workers * plan.cpus if plan else 1.0
    gpus = plan.workers * plan.gpus if plan else 0.0
    price = config.cluster
    return cpus * hours, gpus * hours, hours * (cpus * price.cpu_price + gpus * price.gpu_price)


def _spent(measured: Measured) -> float:
    return sum(measured.seconds.values())
