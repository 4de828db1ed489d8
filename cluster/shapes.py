"""Resource shapes of workers, nodes and groups of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerShape:
    """Resources of one worker of a pool: logical CPUs and GPUs, and bytes of memory (0 for no requirement)."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 0

    def bundle(self) -> dict[str, float]:
        """Return the shape as a Ray resource bundle."""
        more = {"GPU": float(self.gpus), "memory": float(self.memory)}
        return {"CPU": float(self.cpus), **{kind: amount for kind, amount in more.items() if amount}}


def shape_text(worker: WorkerShape) -> str:
    """Describe a worker's resources in words."""
    amounts = {"CPU": worker.cpus, "GPU": worker.gpus, "GiB of memory": worker.memory / 2**30}
    return " and ".join(f"{amount:.3g} {kind}" for kind, amount in amounts.items() if amount)


@dataclass(frozen=True)
class NodeShape:
    """Logical resources of a node. Memory is in bytes, 0 if unknown."""

    cpus: int = 0
    gpus: int = 0
    memory: int = 0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> NodeShape:
        """Convert from Ray's resource names."""
        return cls(*(int(resources.get(kind, 0)) for kind in ("CPU", "GPU", "memory")))

    def capacity(self, worker: WorkerShape) -> int:
        """Return how many such workers fit on the node when it is idle."""
        wanted = [(self.cpus, worker.cpus), (self.gpus, worker.gpus)]
        if self.memory:
            wanted.append((self.memory, worker.memory))
        return min(int(there / each) for there, each in wanted if each)


@dataclass(frozen=True)
class NodeGroup:
    """A group of identical nodes, at most `max_nodes` of them."""

    max_nodes: int
    shape: NodeShape
