"""What the cluster has and may get, whether workers fit on it, and how many each kind of work takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ray

from cluster.autoscaler import autoscaler_groups
from cluster.errors import UserError
from cluster.shapes import NodeGroup, NodeShape, WorkerShape, shape_text


@dataclass(frozen=True)
class ClusterView:
    """Nodes that live, and nodes that an autoscaler may add to them.

    Attributes
    ----------
    living : the logical resources of each living node.
    addable : those of each node that may be added; empty where no autoscaler is known.
    """

    living: tuple[NodeShape, ...]
    addable: tuple[NodeShape, ...] = ()

    @classmethod
    def now(cls, groups: Sequence[NodeGroup] | None = None) -> ClusterView:
        """Read from the connected Ray; `groups` replaces what its autoscaler says of itself."""
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

    def room(self, worker: WorkerShape) -> int:
        """How many such workers the living nodes hold when they are idle."""
        return sum(node.room(worker) for node in self.living)

    def reachable_room(self, worker: WorkerShape) -> int:
        """How many they hold once every node is there that may be."""
        return self.room(worker) + sum(node.room(worker) for node in self.addable)


def addable_nodes(living: Sequence[NodeShape], groups: Sequence[NodeGroup]) -> tuple[NodeShape, ...]:
    """The nodes that groups lack to their limits; a living node counts for the first group of its shape with room."""
    missing = [group.max_nodes for group in groups]
    for node in living:
        for place, group in enumerate(groups):
            if missing[place] and (group.shape.cpus, group.shape.gpus) == (node.cpus, node.gpus):
                missing[place] -= 1
                break
    return tuple(group.shape for group, count in zip(groups, missing, strict=True) for _ in range(count))


@dataclass(frozen=True)
class PoolPlan:
    """A pool of equal workers.

    `minimum` start at once; up to `maximum` are added as the work asks and the cluster can give. A pass that has lost
    all nodes with room for a worker waits `wait_seconds` for others.
    """

    minimum: int
    maximum: int
    shape: WorkerShape
    wait_seconds: float = 900.0


def plan_pool(
    view: ClusterView, tasks: int | None, actors: int | None, worker: WorkerShape, fewer_will_do: bool = False
) -> PoolPlan:
    """Size a pool for `tasks` independent shards.

    Parameters
    ----------
    view : what the cluster has and may get.
    tasks : shards that are left to do, since more workers than that would idle; None where it is not known yet.
    actors : the number asked for in `cluster.actors`, or None for as many as fit.
    worker : what each takes.
    fewer_will_do : take what fits of the number asked for: a run goes on when it has lost a node.

    Raises `UserError` when the number asked for, or a single worker, can never be scheduled.
    """
    if worker.gpus and view.gpus < worker.gpus:
        raise UserError(
            f"The work asks for {worker.gpus} GPU a worker and the cluster has {view.gpus}.",
            "Set cluster.gpus to 0 to run on CPU, or add a GPU node.",
        )
    fits = view.reachable_room(worker)
    if fits == 0:
        raise no_room(worker, "a scoring worker")
    if actors is not None and fewer_will_do:
        actors = min(actors, fits)
    if actors is not None and actors > fits:
        raise UserError(
            f"cluster.actors asks for {actors} workers and the cluster has room for {fits} "
            f"({shape_text(worker)} each).",
            f"Set cluster.actors to {fits} or less, or leave it out.",
        )
    size = actors if actors is not None else fits
    if tasks is not None:
        size = max(1, min(size, tasks))
    return PoolPlan(max(1, min(size, view.room(worker))), size, worker)


def require_room(name: str, workers: int, worker: WorkerShape, view: ClusterView) -> None:
    """Refuse a training whose workers, all needed at once, the cluster can never hold, however far it grows.

    Parameters
    ----------
    name : the stage; the message names `<name>.workers`.
    workers : the world size.
    worker : what each takes.

    Raises `UserError`.
    """
    room = view.reachable_room(worker)
    if room >= workers:
        return
    if worker.gpus and view.gpus == 0:
        raise UserError(
            f"{name} is to run on GPUs, but no node of the cluster has one.",
            "Set cluster.gpus to 0 to train on CPUs, or run on a cluster with GPUs.",
        )
    remedy = f"Set {name}.workers to {room} or add nodes" if room else "Take larger nodes, or work that needs less"
    raise UserError(
        f"{name}.workers is {workers} and each worker needs {shape_text(worker)}, but the cluster has room for {room}.",
        f"{remedy}; where an autoscaler would add them, say so with cluster.node_groups.",
    )


def no_room(worker: WorkerShape, purpose: str) -> UserError:
    """The refusal of a worker that fits on no node, present or to come."""
    return UserError(
        f"No node of the cluster has {shape_text(worker)} for {purpose}, and no autoscaler is known that would "
        "add one.",
        "Add a node, or say with cluster.node_groups what the cluster may grow to.",
    )
