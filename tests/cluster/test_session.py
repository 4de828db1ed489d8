from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.errors import UserError
from cluster.session import connect, is_embedded
from tests.ray_cluster import ROOT, environment


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match=f"No Ray cluster answers at {address}"):
        connect(address, None, None)


def test_a_client_address_is_refused() -> None:
    with pytest.raises(UserError, match="Ray Client address") as caught:
        connect("ray://head:10001", None, None)
    assert "dealrec submit" in caught.value.remedy


def test_inside_a_job_its_cluster_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert is_embedded(None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not is_embedded(None)
    assert is_embedded("local")


_LEFT_IN_THE_MIDST = """
import threading, time
import ray
from cluster.executions import blocks_of
from cluster.session import ray_session

def slow(batch):
    time.sleep(0.2)
    return batch

with ray_session("local", cpus=2):
    before = threading.enumerate()
    blocks = blocks_of(ray.data.range(1000, override_num_blocks=1000).map_batches(slow, batch_size=1))
    assert next(blocks).num_rows
alive = [thread.name for thread in threading.enumerate() if thread not in before]
raise SystemExit(f"still executing: {alive}" if alive else 0)
"""


def test_a_session_ends_what_ray_data_still_executes() -> None:
    command = [sys.executable, "-c", _LEFT_IN_THE_MIDST]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
