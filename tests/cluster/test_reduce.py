import os
import signal
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.exceptions import OutOfMemoryError

from cluster import reduce
from cluster.errors import UserError
from cluster.reduce import ReducePatience, ReducePool
from cluster.shapes import WorkerShape

INDICES = list(range(9))
PATIENT = ReducePatience()


class Partial:
    """A sum per shard whose float64 total depends on the order of addition."""

    def __init__(self, marker: str | None = None, for_good: bool = False) -> None:
        self.marker = marker
        self.for_good = for_good

    def part(self, index: int, scale: float) -> np.ndarray:
        if self.marker is not None and index == 4 and not Path(self.marker).exists():
            Path(self.marker).touch()
            if self.for_good:
                ray.actor.exit_actor()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.random.default_rng(index).normal(size=100) * 10.0 ** (index % 5) * scale

    def die(self, index: int, argument: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse(self, index: int, argument: object) -> None:
        raise UserError(f"Shard {index} is at fault.")


def total(
    size: int, marker: str | None = None, for_good: bool = False, patience: ReducePatience = PATIENT
) -> np.ndarray:
    arguments = {"marker": marker, "for_good": for_good}
    with ReducePool(Partial, arguments, INDICES, size, WorkerShape(), patience) as pool:
        result = np.zeros(100)
        for part in pool.map("part", 3.0):
            result += part
        return result


def test_the_sum_is_the_same_to_the_last_bit_for_any_pool(ray_local: None) -> None:
    expected = total(1)
    assert np.array_equal(total(2), expected)
    assert np.array_equal(total(4), expected)


@pytest.mark.parametrize("for_good", [False, True])
def test_a_killed_actor_changes_nothing(ray_local: None, tmp_path: Path, for_good: bool) -> None:
    """Ray restarts an actor that was killed; the pool replaces one that exited."""
    marker = tmp_path / "died"
    assert np.array_equal(total(2, str(marker), for_good), total(1))
    assert marker.exists()


class Holder:
    """Takes CPUs, as another job on the cluster would."""

    def here(self) -> None: ...


def test_what_others_hold_is_not_waited_for(ray_local: None) -> None:
    holder = ray.remote(Holder).options(num_cpus=ray.cluster_resources()["CPU"] - 1).remote()
    ray.get(holder.here.remote())
    try:
        assert np.array_equal(total(2, patience=ReducePatience(look_seconds=0.5)), total(1))
    finally:
        ray.kill(holder)


def test_workers_that_always_die_are_given_up(ray_local: None) -> None:
    patience = ReducePatience(deaths=1, restarts=1)
    with (
        ReducePool(Partial, {}, [0, 1], 1, WorkerShape(), patience) as pool,
        pytest.raises(UserError, match="keep dying"),
    ):
        list(pool.map("die"))


def test_a_worker_that_ray_killed_for_its_memory_is_replaced(ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reports this with an error other than that of a dead actor."""
    taken = ray.get
    faults = [OutOfMemoryError("killed"), OutOfMemoryError("killed")]

    def get(reference: ray.ObjectRef) -> object:
        if faults:
            raise faults.pop()
        return taken(reference)

    expected = total(1)
    monkeypatch.setattr(reduce.ray, "get", get)
    assert np.array_equal(total(2), expected)
    assert not faults


def test_the_users_fault_comes_through(ray_local: None) -> None:
    with ReducePool(Partial, {}, [0], 1, WorkerShape()) as pool, pytest.raises(UserError, match="at fault"):
        list(pool.map("refuse"))
