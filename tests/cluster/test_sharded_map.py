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
from cluster.shards import attempts_at, begin_shard
from cluster.storage import Storage

INDICES = list(range(6))


class Doubler:
    """Writes twice the broadcast value plus the shard's index, one row for each unit of it."""

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


class Dies:
    """Kills its own process whenever it meets shard 3."""

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"x": [index]}), {}


class DiesInConstructor:
    """Kills its process the first `times` times that it is built."""

    def __init__(self, folder: str, times: int) -> None:
        built = len(list(Path(folder).iterdir()))
        (Path(folder) / str(built)).touch()
        if built < times:
            os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        return pa.table({"x": [index]}), {}


class Broken:
    def __init__(self) -> None:
        raise KeyError("a fault of ours")

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
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


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_given_up(ray_local: None, tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    begin_shard(out, 3)  # by an earlier run, which counts for nothing
    with pytest.raises(UserError, match=r"worker of shard 3 of .* died 5 times while processing it"):
        map_shards(Dies, {}, INDICES, out, pool(1), SilentProgress())
    assert attempts_at(out, [3]) == {3: 7}
    assert file_bytes(out).keys() >= {f"part-{index:05d}.parquet" for index in (0, 1, 2)}


def test_shards_given_together_are_begun_again_one_by_one(ray_local: None, tmp_path: Path) -> None:
    out, marker, indices = Storage.at(tmp_path / "out"), tmp_path / "died", range(40)
    records = map_shards(DiesOnce, {"marker": str(marker)}, indices, out, pool(1), SilentProgress(), at_once=5)
    assert marker.exists()
    assert [record.index for record in records] == list(indices)
    # Shards 0 to 2 of the same call were finished already.
    assert [record.attempt for record in records] == [1, 1, 1, 2, *[1] * 36]


@pytest.mark.slow
def test_a_worker_killed_while_it_begins_is_replaced(ray_local: None, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    arguments = {"folder": str(built), "times": 2}
    records = map_shards(DiesInConstructor, arguments, INDICES, Storage.at(tmp_path / "out"), pool(1), SilentProgress())
    assert len(list(built.iterdir())) == 3
    assert [record.attempt for record in records] == [1] * len(INDICES)


@pytest.mark.slow
def test_workers_that_never_begin_end_the_pass(ray_local: None, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    arguments = {"folder": str(built), "times": 1000}
    with pytest.raises(UserError, match="died 5 times before it could start"):
        map_shards(DiesInConstructor, arguments, INDICES, Storage.at(tmp_path / "out"), pool(1), SilentProgress())


def test_what_a_worker_cannot_begin_with_is_told(ray_local: None, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"could not start:(?s:.*)KeyError: 'a fault of ours'"):
        map_shards(Broken, {}, INDICES, Storage.at(tmp_path), pool(1), SilentProgress())


def test_the_users_fault_comes_through(ray_local: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Shard \d is at fault. Mend it."):
        map_shards(Refuses, {}, INDICES, Storage.at(tmp_path), pool(1), SilentProgress())
    with pytest.raises(UserError, match=r"No worker can begin. Mend it."):
        map_shards(CannotBegin, {}, INDICES, Storage.at(tmp_path), pool(1), SilentProgress())
