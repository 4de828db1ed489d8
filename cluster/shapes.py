"""Sizes of workers, of nodes, and of groups of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerShape:
    """What one worker of a pool takes: logical CPUs and GPUs."""

    cpus: float = 1
    gpus: float = 0

    def bundle(self) -> dict[str, float]:
        """As Ray writes it."""
        return {"CPU": float(self.cpus), **({"GPU": float(self.gpus)} if self.gpus else {})}


@dataclass(frozen=True)
class NodeShape:
    """Logical resources of a node. Memory in bytes, 0 where it is not known."""

    cpus: int = 0
    gpus: int = 0
    memory: int = 0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> NodeShape:
        """From Ray's own names."""
        return cls(*(int(resources.get(kind, 0)) for kind in ("CPU", "GPU", "memory")))

    def room(self, worker: WorkerShape) -> int:
        """How many such workers fit on the node when it is idle."""
        wanted = [(self.cpus, worker.cpus), (self.gpus, worker.gpus)]
        return min(int(there / each) for there, each in wanted if each)


@dataclass(frozen=True)
class NodeGroup:
    """Equal nodes, of which there are never more than `max_nodes`."""

    max_nodes: int
    shape: NodeShape
