"""How a cluster is divided among the stages, before any of them runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from cluster.errors import UserError
from cluster.machine_checks import Finding
from cluster.resources import ClusterView, PoolPlan, no_room, require_capacity
from cluster.shapes import WorkerShape
from pipeline.engine.config import Config
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.stages.worker_pools import plan_llm, plan_scoring, surrogate_placement, tuning_placement
from training.loops.worker_placement import Placement

_TASK = WorkerShape(cpus=1)


@dataclass(frozen=True)
class StagePlan:
    """The workers of one stage.

    Attributes
    ----------
    kind : tasks (of Ray Data), pool (of actors) or training (all at once, or none).
    now, workers : workers that the living nodes hold, and those there are once the cluster has grown; a run starts
        no more in a pool than the stage has shards.
    per_node : workers on the node that holds most of them.
    cpus, gpus : of each worker.
    memory : GiB of its node's memory that each worker reserves.
    free_cpus : CPUs that the workers leave, when all nodes are there, for tasks that read and write.
    """

    stage: str
    kind: str
    now: int
    workers: int
    per_node: int
    cpus: float
    gpus: float
    memory: float
    free_cpus: int


def resource_plan(config: Config, view: ClusterView, stages: Sequence[str]) -> tuple[list[StagePlan], list[Finding]]:
    """Plan the stages that need workers, and return a finding for each that can never have them."""
    plans: list[StagePlan] = []
    lacks: list[Finding] = []
    for stage in stages:
        if stage not in _PLANNERS:
            continue
        kind, planner = _PLANNERS[stage]
        try:
            pool = planner(config, view)
        except UserError as error:
            lacks.append(Finding(f"workers of {stage}", _have(view), error.message.rstrip("."), error.remedy))
            continue
        shape = pool.shape
        most = max(node.capacity(shape) for node in (*view.living, *view.addable))
        free = view.cpus - int(pool.maximum * shape.cpus)
        now = min(pool.minimum, view.capacity(shape))
        memory = round(shape.memory / 2**30, 1)
        per_node = min(most, pool.maximum)
        plans.append(StagePlan(stage, kind, now, pool.maximum, per_node, shape.cpus, shape.gpus, memory, free))
    return plans, lacks


def plan_rows(plans: Sequence[StagePlan]) -> list[dict[str, object]]:
    """Return a row of a table for each plan; the columns are the attributes, spelt with spaces."""
    return [{key.replace("_", " "): value for key, value in asdict(plan).items()} for plan in plans]


def describe(view: ClusterView) -> str:
    """Describe a cluster in a few words: nodes of equal shape together, then those that may be added."""
    text = _have(view) + _shapes(view)
    if view.addable:
        more = ClusterView(view.addable)
        text += f"; may add {_have(more)}{_shapes(more)}"
    return text


def _shapes(view: ClusterView) -> str:
    """Count the live nodes of each shape, the largest first; say nothing about a single node."""
    if len(view.living) < 2:
        return ""
    counts = Counter((node.cpus, node.gpus) for node in view.living)
    parts = [f"{counts[shape]} of {shape[0]} CPUs and {shape[1]} GPUs" for shape in sorted(counts, reverse=True)]
    return f" ({', '.join(parts)})"


def _have(view: ClusterView) -> str:
    cpus, gpus = sum(node.cpus for node in view.living), sum(node.gpus for node in view.living)
    nodes = len(view.living)
    return f"{nodes} node{'s' if nodes != 1 else ''}, {cpus} CPUs, {gpus} GPUs"


def _tasks(config: Config, view: ClusterView) -> PoolPlan:
    room = view.full_capacity(_TASK)
    if room == 0:
        raise no_room(_TASK, "an ingest task")
    return PoolPlan(view.capacity(_TASK), room, _TASK)


def _training(name: str, workers: int, placement: Placement, view: ClusterView) -> PoolPlan:
    worker = placement.worker()
    require_capacity(name, workers, worker, view)
    return PoolPlan(min(workers, view.capacity(worker)), workers, worker)


def _surrogate(config: Config, view: ClusterView) -> PoolPlan:
    return _training("surrogate", config.surrogate.workers, surrogate_placement(config, view), view)


def _finetune(config: Config, view: ClusterView) -> PoolPlan:
    return _training("finetune", config.finetune.workers, tuning_placement(config, view), view)


def _scoring(config: Config, view: ClusterView) -> PoolPlan:
    return plan_scoring(config, view)


def _llm(config: Config, view: ClusterView) -> PoolPlan:
    return plan_llm(config, view)


_PLANNERS: dict[str, tuple[str, Callable[[Config, ClusterView], PoolPlan]]] = {
    "ingest": ("tasks", _tasks),
    "surrogate": ("training", _surrogate),
    "influence": ("pool", _scoring),
    "effort": ("pool", _llm),
    **dict.fromkeys(FEATURE_NAMES, ("pool", _scoring)),
    "finetune": ("training", _finetune),
    "evaluate": ("pool", _llm),
}
