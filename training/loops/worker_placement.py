"""Where training workers run, and the refusal of a world size that the cluster cannot hold."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from cluster.resources import ClusterView, require_capacity
from cluster.scale_up import ensure_capacity
from cluster.shapes import NodeGroup, WorkerShape


@dataclass(frozen=True)
class Placement:
    """Where training workers run and what they may use; nothing here changes what they compute beyond rounding.

    Attributes
    ----------
    use_gpu : one GPU a worker and NCCL, else CPUs and gloo.
    cpus_per_worker : logical CPUs that Ray reserves for each.
    memory : bytes of a node's memory that Ray reserves for each; 0 reserves none.
    threads : threads of torch in each.
    max_failures : restarts from the last checkpoint after a worker died, before the run fails.
    wait_seconds : how long an autoscaler may take to bring missing nodes, and lost ones to come back.
    node_groups : what the cluster may grow to; None asks its autoscaler.
    """

    use_gpu: bool = False
    cpus_per_worker: float = 1.0
    memory: int = 0
    threads: int = 1
    max_failures: int = 3
    wait_seconds: float = 900.0
    node_groups: tuple[NodeGroup, ...] | None = None

    def worker(self) -> WorkerShape:
        """Return what one worker takes."""
        return WorkerShape(self.cpus_per_worker, 1 if self.use_gpu else 0, self.memory)

    def bundle(self) -> dict[str, float]:
        """Return the resources that one worker reserves, by Ray's names."""
        return self.worker().bundle()


def require_resources(name: str, workers: int, placement: Placement) -> None:
    """Refuse a world size that the cluster can never hold, and wait for nodes that an autoscaler may bring.

    Raises `UserError` naming `<name>.workers`, what a worker needs and how many the cluster has room for.
    """

    def view() -> ClusterView:
        return ClusterView.now(placement.node_groups)

    require_capacity(name, workers, placement.worker(), view())
    ensure_capacity(placement.worker(), workers, workers, placement.wait_seconds, view)


def living_nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
