import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.broadcast import Broadcast
from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.resources import PoolPlan
from cluster.shapes import WorkerShape
from cluster.sharded_map import map_shards
from cluster.storage import Storage

INDICES = list(range(6))


class Doubler:
    """Writes twice the broadcast value plus the shard's number, a row for each unit of it."""

    def __init__(self, weights: Broadcast) -> None:
        self.value = float(weights.get()["value"][0])

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        rows = np.full(index + 1, 2 * self.value + index)
        return pa.table({"x": rows}), {"sum": float(rows.sum())}


class DiesOnce:
    """Kills its own process the first time it meets shard 3."""

    def __init__(self, marker: str) -> None:
        self.marker = Path(marker)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        if index == 3 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"x": [index]}), {}


class Refuses:
    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        raise UserError(f"Shard {index} is at fault.", "Mend it.")


class CannotBegin:
    def __init__(self) -> None:
        raise UserError("No worker can begin.", "Mend it.")

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        return pa.table({"x": [index]}), {}


def pool(size: int) -> PoolPlan:
    return PoolPlan(size, size, WorkerShape())


def file_bytes(store: Storage) -> dict[str, bytes]:
    return {name: store.read_bytes(name) for name in store.list(suffix=".parquet")}


def test_any_number_of_actors_writes_the_same_files(ray_local: None, tmp_path: Path) -> None:
    results = []
    for size in (1, 2, 4):
        out = Storage.at(tmp_path / str(size))
        weights = Broadcast.put({"value": np.array([1.5])}, out, "_weights.safetensors")
        records = map_shards(Doubler, {"weights": weights}, INDICES, out, pool(size), SilentProgress())
        assert [record.index for record in records] == INDICES
        assert [record.rows for record in records] == [index + 1 for index in INDICES]
        assert records[2].facts == {"sum": 15.0}
        results.append(file_bytes(out))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == len(INDICES)


def test_finished_shards_are_not_done_again(ray_local: None, tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    weights = Broadcast.put({"value": np.array([1.0])}, out, "_weights.safetensors")
    first = map_shards(Doubler, {"weights": weights}, INDICES, out, pool(2), SilentProgress())
    out.delete("part-00004.parquet")
    second = map_shards(Doubler, {"weights": weights}, INDICES, out, pool(2), SilentProgress())
    assert [record.attempt for record in second] == [1, 1, 1, 1, 2, 1]
    assert [record.digest for record in second] == [record.digest for record in first]


def test_a_killed_worker_costs_one_attempt(ray_local: None, tmp_path: Path) -> None:
    out = Storage.at(tmp_path / "out")
    marker = tmp_path / "died"
    records = map_shards(DiesOnce, {"marker": str(marker)}, INDICES, out, pool(1), SilentProgress())
    assert marker.exists()
    assert [record.attempt for record in records][3] == 2
    assert [out.read_table(f"part-{i:05d}.parquet").column("x").to_pylist() for i in INDICES] == [[i] for i in INDICES]


def test_the_users_fault_comes_through(ray_local: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Shard \d is at fault. Mend it."):
        map_shards(Refuses, {}, INDICES, Storage.at(tmp_path), pool(1), SilentProgress())
    with pytest.raises(UserError, match=r"No worker can begin. Mend it."):
        map_shards(CannotBegin, {}, INDICES, Storage.at(tmp_path), pool(1), SilentProgress())
