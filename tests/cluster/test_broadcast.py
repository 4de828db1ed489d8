from pathlib import Path

import numpy as np
import pytest
import ray
from ray.exceptions import ObjectLostError

from cluster.broadcast import Broadcast
from cluster.storage import Storage


def test_workers_read_what_was_put(ray_local: None, tmp_path: Path) -> None:
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([7])}
    broadcast = Broadcast.put(arrays, Storage.at(tmp_path), "w.safetensors")

    @ray.remote
    def total(shared: Broadcast) -> tuple[float, bool]:
        got = shared.get()
        return float(got["w"].sum() + got["n"][0]), bool(got["w"].flags.writeable)

    assert ray.get(total.remote(broadcast)) == (22.0, False)


def test_a_lost_object_is_read_from_its_copy(ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broadcast = Broadcast.put({"w": np.ones(3)}, Storage.at(tmp_path), "w.safetensors")

    def lost(reference: ray.ObjectRef) -> None:
        raise ObjectLostError(reference.hex(), None, "")

    monkeypatch.setattr(ray, "get", lost)
    assert broadcast.get()["w"].tolist() == [1.0, 1.0, 1.0]
