"""The hardware of a stage's workers, from the cluster section and what the cluster has or may grow to."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import ray
import torch

from cluster.errors import UserError
from cluster.nodes import living_nodes, nodes_not_sharing
from cluster.resources import ClusterView, PoolPlan, plan_pool
from cluster.scale_up import ensure_capacity
from cluster.session import is_embedded
from cluster.shapes import NodeGroup, NodeShape, WorkerShape
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.stages.same_on_nodes import same_llm
from training.llm.memory_needs import llm_worker_memory
from training.loops.worker_placement import Placement, require_resources


def node_groups(config: Config) -> tuple[NodeGroup, ...] | None:
    """Return what the config says the cluster may grow to; None to ask the autoscaler."""
    if config.cluster.node_groups is None:
        return None
    return tuple(
        NodeGroup(group.max_nodes, NodeShape(group.cpus, group.gpus, int(group.memory * 2**30)))
        for group in config.cluster.node_groups
    )


def cluster_view(config: Config) -> ClusterView:
    """Return the connected Ray, and what it may grow to."""
    return ClusterView.now(node_groups(config))


def gpus_per_worker(config: Config, view: ClusterView) -> int:
    """Return the GPUs for each worker of an LLM stage: one if the config asks or the cluster has any, else none."""
    if config.cluster.gpus == "auto":
        return min(1, view.gpus)
    return min(1, config.cluster.gpus)


def plan_scoring(config: Config, view: ClusterView, shards: int | None = None) -> PoolPlan:
    """Plan CPU workers for the surrogate's scores: before the run, or for the shards of a stage.

    All workers must fit before the run; if nodes are lost later, fewer workers continue. Raises like `plan_pool`.
    """
    return plan_pool(view, shards, config.cluster.actors, WorkerShape(), allow_fewer=shards is not None)


def plan_llm(config: Config, view: ClusterView, shards: int | None = None) -> PoolPlan:
    """Plan workers for the LLM's forward passes: with a GPU each if there are any, but no more GPUs than asked for."""
    asked = config.cluster.gpus
    if isinstance(asked, int) and asked > view.gpus and (shards is None or not view.gpus):
        raise UserError(
            f"cluster.gpus asks for {asked} GPUs and the cluster has {view.gpus}.",
            "Set cluster.gpus to 0 to run on CPU, or add GPU nodes.",
        )
    actors = config.cluster.actors
    if actors is None and isinstance(asked, int) and asked:
        actors = asked
    worker = WorkerShape(gpus=gpus_per_worker(config, view), memory=llm_worker_memory(config.llm.model))
    return plan_pool(view, shards, actors, worker, allow_fewer=shards is not None)


def scoring_pool(context: StageContext, shards: int) -> PoolPlan:
    """Return a pool of CPU workers, once the cluster has room for the first of them."""
    return _ready(context, plan_scoring(context.config, cluster_view(context.config), shards))


def llm_pool(context: StageContext, shards: int) -> PoolPlan:
    """Return a pool for the LLM, once the cluster has room for the first worker."""
    plan = _ready(context, plan_llm(context.config, cluster_view(context.config), shards))
    require_llm(context, on_gpus=plan.shape.gpus > 0)
    return plan


def room_for_tasks(context: StageContext) -> None:
    """Wait for a first node for Ray Data's tasks, and check that all nodes share the run's storage."""
    config = context.config
    ensure_capacity(WorkerShape(), 1, 1, config.cluster.wait_seconds, lambda: cluster_view(config))
    require_shared(context.run)


def _ready(context: StageContext, plan: PoolPlan) -> PoolPlan:
    """Let the cluster grow; the pool starts with what fits then, on nodes that share the run's storage."""
    config = context.config
    view = ensure_capacity(plan.shape, plan.maximum, 1, config.cluster.wait_seconds, lambda: cluster_view(config))
    require_shared(context.run)
    minimum = max(1, min(plan.maximum, view.capacity(plan.shape)))
    return replace(plan, minimum=minimum, wait_seconds=config.cluster.wait_seconds)


def room_for_training(context: StageContext, stage: str, workers: int, placement: Placement) -> None:
    """Wait for nodes for all workers of a training, and check that all nodes share the run's storage."""
    require_resources(stage, workers, placement)
    require_shared(context.run)


def require_shared(run: Storage) -> None:
    """Raise `UserError` when the living nodes do not all see the run directory; nodes are asked once."""
    nodes = frozenset(str(node["NodeID"]) for node in living_nodes())
    if len(nodes) > 1:
        _require_shared(run, nodes)


@lru_cache(maxsize=64)
def _require_shared(run: Storage, nodes: frozenset[str]) -> None:
    lacking = nodes_not_sharing(run)
    if lacking:
        raise UserError(*not_shared(run, lacking))


def require_llm(context: StageContext, on_gpus: bool) -> None:
    """Raise `UserError` when a living node lacks the LLM's files or has others; the same nodes are asked once.

    Nodes that an autoscaler has brought up were not there before the run. Workers run on those with GPUs alone where
    they are given any.
    """
    if not is_embedded(context.config.cluster.address):
        nodes = frozenset(str(node["NodeID"]) for node in living_nodes())
        _require_llm(context.config.llm.model, on_gpus, not context.run.remote, nodes)


@lru_cache(maxsize=64)
def _require_llm(model: str, on_gpus: bool, unpacked: bool, nodes: frozenset[str]) -> None:
    same_llm(model, on_gpus, unpacked)


def not_shared(run: Storage, nodes: list[str]) -> tuple[str, str]:
    """Return the message and remedy of a `UserError` about a run directory that nodes do not see."""
    return (
        f"The run directory {run.uri} is not shared: what one node writes there is not read on {', '.join(nodes)}.",
        "Choose a --run-dir on storage that all nodes mount, or an s3:// or gs:// URI.",
    )


def llm_device() -> str:
    """Return a worker's device: the GPU that Ray gave it, or the CPU on one thread.

    A worker that was given none may still see the node's.
    """
    if torch.cuda.is_available() and ray.get_gpu_ids():
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


def surrogate_placement(config: Config, view: ClusterView | None = None) -> Placement:
    """Place the workers that train the surrogate."""
    return _training_placement(config, config.surrogate.workers, view or cluster_view(config))


def tuning_placement(config: Config, view: ClusterView | None = None) -> Placement:
    """Place the workers that fine-tune the LLM. Each holds the model in its node's memory, at least while loading."""
    placement = _training_placement(config, config.finetune.workers, view or cluster_view(config))
    return replace(placement, memory=llm_worker_memory(config.llm.model))


def _training_placement(config: Config, workers: int, view: ClusterView) -> Placement:
    """Divide a node's cores evenly among CPU workers, by the average node with cores, since the head may have none."""
    use_gpu = gpus_per_worker(config, view) > 0
    working = sum(node.cpus > 0 for node in (*view.living, *view.addable))
    threads = 1 if use_gpu else max(1, view.cpus // max(1, working) // workers)
    return Placement(
        use_gpu=use_gpu,
        threads=threads,
        wait_seconds=config.cluster.wait_seconds,
        node_groups=node_groups(config),
    )
