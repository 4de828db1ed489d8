"""The cluster's current and potential resources, whether workers fit on them, and the size of worker pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ray

from cluster.autoscaler import autoscaler_groups
from cluster.errors import UserError
from cluster.shapes import NodeGroup, NodeShape, WorkerShape, shape_text


@dataclass(frozen=True)
class ClusterView:
    """The nodes that are up, and the nodes that an autoscaler may add.

    Attributes
    ----------
    living : logical resources of each live node.
    addable : logical resources of each node that may be added; empty if no autoscaler is known.
    """

    living: tuple[NodeShape, ...]
    addable: tuple[NodeShape, ...] = ()

    @classmethod
    def now(cls, groups: Sequence[NodeGroup] | None = None) -> ClusterView:
        """Read the connected Ray. `groups` overrides what its autoscaler reports."""
        living = tuple(NodeShape.of(node["Resources"]) for node in ray.nodes() if node["Alive"])
        return cls(living, addable_nodes(living, autoscaler_groups() if groups is None else groups))

    @property
    def nodes(self) -> int:
        return len(self.living) + len(self.addable)

    @property
    def cpus(self) -> int:
        return sum(node.cpus for node in (*self.living, *self.addable))

    @property
    def gpus(self) -> int:
        return sum(node.gpus for node in (*self.living, *self.addable))

    def capacity(self, worker: WorkerShape) -> int:
        """Return how many such workers the live nodes hold when idle."""
        return sum(node.capacity(worker) for node in self.living)

    def full_capacity(self, worker: WorkerShape) -> int:
        """Return how many such workers fit once the autoscaler has added every node it may."""
        return self.capacity(worker) + sum(node.capacity(worker) for node in self.addable)


def addable_nodes(living: Sequence[NodeShape], groups: Sequence[NodeGroup]) -> tuple[NodeShape, ...]:
    """Return the nodes that each group may still add. A live node counts for the first unfilled group of its shape."""
    missing = [group.max_nodes for group in groups]
    for node in living:
        for number, group in enumerate(groups):
            if missing[number] and (group.shape.cpus, group.shape.gpus) == (node.cpus, node.gpus):
                missing[number] -= 1
                break
    return tuple(group.shape for group, count in zip(groups, missing, strict=True) for _ in range(count))


@dataclass(frozen=True)
class PoolPlan:
    """The size of a pool of identical workers.

    The pool starts with `minimum` workers and grows to `maximum` as the work requires and the cluster allows.
    A pass that has lost every node able to hold a worker waits `wait_seconds` for another.
    """

    minimum: int
    maximum: int
    shape: WorkerShape
    wait_seconds: float = 900.0


def plan_pool(
    view: ClusterView, tasks: int | None, actors: int | None, worker: WorkerShape, allow_fewer: bool = False
) -> PoolPlan:
    """Size a pool for `tasks` independent shards.

    Parameters
    ----------
    view : the cluster's current and potential nodes.
    tasks : number of remaining shards, above which workers would idle; None if not known yet.
    actors : `cluster.actors`, the number of workers asked for; None for as many as fit.
    worker : resources of one worker.
    allow_fewer : accept fewer workers than asked for, so that a run continues after losing a node.

    Raises `UserError` if the number asked for, or even a single worker, can never be scheduled.
    """
    if worker.gpus and view.gpus < worker.gpus:
        raise UserError(
            f"Each worker needs {worker.gpus} GPU, but the cluster has {view.gpus}.",
            "Set cluster.gpus to 0 to run on CPU, or add a GPU node.",
        )
    fits = view.full_capacity(worker)
    if fits == 0:
        raise no_room(worker, "a scoring worker")
    if actors is not None and allow_fewer:
        actors = min(actors, fits)
    if actors is not None and actors > fits:
        raise UserError(
            f"cluster.actors asks for {actors} workers, but the cluster has room for {fits} "
            f"({shape_text(worker)} each).",
            f"Set cluster.actors to {fits} or less, or omit it.",
        )
    size = actors if actors is not None else fits
    if tasks is not None:
        size = max(1, min(size, tasks))
    return PoolPlan(max(1, min(size, view.capacity(worker))), size, worker)


def require_capacity(name: str, workers: int, worker: WorkerShape, view: ClusterView) -> None:
    """Check that the cluster can ever hold all workers of a training at once, after growing as far as it may.

    Parameters
    ----------
    name : the stage; the message names `<name>.workers`.
    workers : the world size.
    worker : resources of one worker.
    view : the cluster's current and potential nodes.

    Raises `UserError` if it cannot.
    """
    fits = view.full_capacity(worker)
    if fits >= workers:
        return
    if worker.gpus and view.gpus == 0:
        raise UserError(
            f"{name} is to run on GPUs, but no node of the cluster has one.",
            "Set cluster.gpus to 0 to train on CPUs, or run on a cluster with GPUs.",
        )
    remedy = f"Set {name}.workers to {fits} or add nodes" if fits else "Use larger nodes, or reduce what a worker needs"
    raise UserError(
        f"{name}.workers is {workers} and each worker needs {shape_text(worker)}, but the cluster has room for {fits}.",
        f"{remedy}. If an autoscaler adds nodes, list them in cluster.node_groups.",
    )


def no_room(worker: WorkerShape, purpose: str) -> UserError:
    """Return the error for a worker that fits on no current or potential node."""
    return UserError(
        f"No node of the cluster has {shape_text(worker)} for {purpose}, and no known autoscaler would add one.",
        "Add a node, or list in cluster.node_groups the nodes that the cluster may add.",
    )
