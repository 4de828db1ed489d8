"""A driver in its own process, with passes over shards by workers slow enough for a test to break something.

    python -m tests.cluster.fault_driver ADDRESS FOLDER {map,reduce,broadcast}

It writes its findings to FOLDER/result.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.experimental import get_object_locations
from safetensors.numpy import save

from cluster.broadcast import Broadcast
from cluster.nodes import living_nodes, on_nodes
from cluster.progress import SilentProgress
from cluster.reduce import ReducePool
from cluster.resources import ClusterView, plan_pool
from cluster.session import ray_session
from cluster.shapes import WorkerShape
from cluster.sharded_map import map_shards
from cluster.storage import Storage

SHARDS = list(range(16))
WEIGHTS = np.arange(1 << 20, dtype=np.float64)
_SECONDS = 1.0


class SlowWorker:
    """Takes a second per shard, and leaves a file named after the shard and the node."""

    def __init__(self, weights: Broadcast, trace: Storage) -> None:
        self._weights = weights.get()["weights"]
        self._trace = trace

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        total = self.sum(index, None)
        return pa.table({"x": [total]}), {"sum": total}

    def sum(self, index: int, argument: None) -> float:
        self._trace.write_text(f"{index}-{ray.get_runtime_context().get_node_id()}", "")
        time.sleep(_SECONDS)
        return float(self._weights[index :: len(SHARDS)].sum())


class Owner:
    """An actor that puts a broadcast, so that the object is lost when the actor dies."""

    def put(self, arrays: Mapping[str, Any], folder: Storage, name: str) -> Broadcast:
        return Broadcast.put(arrays, folder, name)


def copies(weights: Broadcast) -> dict[str, Any]:
    """Return where the broadcast is stored after three readers on each node, according to Ray."""
    nodes = [str(node["NodeID"]) for node in living_nodes()]
    for _ in range(3):
        on_nodes(read, nodes, weights)
    location = get_object_locations([weights.reference])[weights.reference]
    return {"nodes": nodes, "located": sorted(location["node_ids"])}


def after_loss(folder: Storage) -> list[float]:
    """Return what each node reads after the owner of a broadcast has died; the saved copy has doubled values."""
    owner = ray.remote(num_cpus=0)(Owner).remote()
    owned: Broadcast = ray.get(owner.put.remote({"weights": WEIGHTS}, folder, "_owned.safetensors"))
    folder.write_bytes(owned.name, save({"weights": 2 * WEIGHTS}))
    ray.kill(owner)
    nodes = [str(node["NodeID"]) for node in living_nodes()]
    end = time.monotonic() + 60
    while WEIGHTS.sum() in (found := on_nodes(read, nodes, owned)) and time.monotonic() < end:
        time.sleep(1)
    return found


def read(weights: Broadcast) -> float:
    return float(weights.get()["weights"].sum())


def main(address: str, uri: str, kind: str) -> None:
    folder = Storage.at(uri)
    with ray_session(address):
        weights = Broadcast.put({"weights": WEIGHTS}, folder, "_weights.safetensors")
        arguments = {"weights": weights, "trace": folder.child("trace")}
        pool = plan_pool(ClusterView.now(()), len(SHARDS), None, WorkerShape())
        if kind == "broadcast":
            result: Any = {**copies(weights), "after_loss": after_loss(folder)}
        elif kind == "map":
            records = map_shards(SlowWorker, arguments, SHARDS, folder.child("out"), pool, SilentProgress())
            result = [[record.facts["sum"], record.attempt] for record in records]
        else:
            with ReducePool(SlowWorker, arguments, SHARDS, pool.minimum, pool.shape) as workers:
                result = [list(workers.map("sum")) for _ in range(2)]
    folder.write_json("result.json", result)


if __name__ == "__main__":
    main(*sys.argv[1:])
