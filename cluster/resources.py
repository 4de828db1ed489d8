"""What the cluster has, and how much of it each kind of work may take."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from cluster.errors import UserError


@dataclass(frozen=True)
class ClusterView:
    """Logical resources over all living nodes. Memory in bytes."""

    nodes: int
    cpus: int
    gpus: int
    memory: int

    @classmethod
    def now(cls) -> ClusterView:
        """Read from the connected Ray."""
        total = ray.cluster_resources()
        alive = [node for node in ray.nodes() if node["Alive"]]
        return cls(len(alive), int(total.get("CPU", 0)), int(total.get("GPU", 0)), int(total.get("memory", 0)))


@dataclass(frozen=True)
class WorkerShape:
    """What one worker of a pool takes: logical CPUs and GPUs."""

    cpus: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class PoolPlan:
    """A pool of equal workers.

    `minimum` start at once; up to `maximum` are added as the work asks and the cluster can give.
    """

    minimum: int
    maximum: int
    shape: WorkerShape


def plan_pool(view: ClusterView, tasks: int, actors: int | None, gpus: int) -> PoolPlan:
    """Size a pool for `tasks` independent shards.

    Parameters
    ----------
    view : what the cluster has.
    tasks : shards that are left to do; more workers than that would idle.
    actors : the number asked for in `cluster.actors`, or None for as many as fit.
    gpus : GPUs a worker.

    Raises `UserError` when the number asked for can never be scheduled.
    """
    shape = WorkerShape(cpus=1, gpus=gpus)
    if gpus and view.gpus < gpus:
        raise UserError(
            f"The work asks for {gpus} GPU a worker and the cluster has {view.gpus}.",
            "Set cluster.gpus to 0 to run on CPU, or add a GPU node.",
        )
    fits = view.gpus // gpus if gpus else view.cpus
    if actors is not None and actors > fits:
        resource = "GPUs" if gpus else "CPUs"
        raise UserError(
            f"cluster.actors asks for {actors} workers and the cluster's {resource} allow {fits}.",
            f"Set cluster.actors to {fits} or less, or leave it out.",
        )
    size = max(1, min(actors if actors is not None else fits, tasks))
    return PoolPlan(size, size, shape)
