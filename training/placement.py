"""Where training workers run, and the refusal of a world size that the cluster cannot hold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from cluster.errors import UserError


@dataclass(frozen=True)
class Placement:
    """Where training workers run and what they may use; nothing here changes what they compute.

    Attributes
    ----------
    use_gpu : one GPU a worker and NCCL, else CPUs and gloo.
    cpus_per_worker : logical CPUs that Ray reserves for each.
    threads : threads of torch in each.
    max_failures : restarts from the last checkpoint after a worker died, before the run fails.
    wait_seconds : how long an autoscaler may take to bring missing nodes; 0 refuses at once.
    """

    use_gpu: bool = False
    cpus_per_worker: float = 1.0
    threads: int = 1
    max_failures: int = 3
    wait_seconds: float = 0.0

    def bundle(self) -> dict[str, float]:
        """Resources that one worker reserves."""
        return {"CPU": self.cpus_per_worker, **({"GPU": 1.0} if self.use_gpu else {})}


def require_resources(name: str, workers: int, placement: Placement) -> None:
    """Refuse a world size that the cluster cannot hold, instead of waiting for ever.

    Raises `UserError` naming `<name>.workers`, what a worker needs and how many the cluster has room for.
    """
    bundle = placement.bundle()
    deadline = time.monotonic() + placement.wait_seconds
    if placement.wait_seconds > 0 and _room(bundle) < workers:
        request_resources(bundles=[bundle] * workers)
    while (room := _room(bundle)) < workers and time.monotonic() < deadline:
        time.sleep(min(5.0, placement.wait_seconds))
    if room >= workers:
        return
    need = " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())
    if placement.use_gpu and not any(node.get("GPU") for node in living_nodes()):
        raise UserError(
            f"{name} is to run on GPUs, but no node of the cluster has one.",
            "Set cluster.gpus to 0 to train on CPUs, or run on a cluster with GPUs.",
        )
    raise UserError(
        f"{name}.workers is {workers} and each worker needs {need}, but the cluster has room for {room}.",
        f"Set {name}.workers to {max(room, 1)} or add nodes.",
    )


def living_nodes() -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room(bundle: Mapping[str, float]) -> int:
    """How many bundles the living nodes could hold if they were idle."""
    return sum(min(int(node.get(kind, 0.0) / amount) for kind, amount in bundle.items()) for node in living_nodes())
