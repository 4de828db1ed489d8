from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray

from cluster.errors import UserError
from cluster.project_root import PROJECT_ROOT
from cluster.session import WORKER_ENVIRONMENT, connect, is_embedded
from tests.ray_cluster import ROOT, environment


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match=f"No Ray cluster answers at {address}"):
        connect(address, None, None)


def test_a_port_that_is_no_heads_is_refused_at_once() -> None:
    """For example a dashboard's port, for which `ray.init` would retry for a quarter of an hour."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="the service there is not a head's port 6379"):
            connect(f"127.0.0.1:{server.server_port}", None, None)
        server.shutdown()


def test_a_port_without_a_host_is_no_address() -> None:
    with pytest.raises(UserError, match=":6379 is not the address of a cluster"):
        connect(":6379", None, None)


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


def test_workers_of_an_embedded_ray_read_this_checkout_and_are_quiet(ray_local: None) -> None:
    @ray.remote
    def environment() -> dict[str, str]:
        return dict(os.environ)

    there = ray.get(environment.remote())
    assert there["PYTHONPATH"].split(os.pathsep)[0] == str(PROJECT_ROOT)
    assert {name: there[name] for name in WORKER_ENVIRONMENT} == WORKER_ENVIRONMENT
    assert str(PROJECT_ROOT) not in os.environ.get("PYTHONPATH", "").split(os.pathsep)


_LEFT_IN_THE_MIDST = """
import threading, time
import ray
from cluster.ray_data import blocks_of
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


_JOINING = """
import sys
from cluster.session import ray_session
from pipeline.cli.main import guarded
from pipeline.cli.log_lines import configure_logging

def join():
    with ray_session(sys.argv[1]):
        return 0

configure_logging()
sys.exit(guarded(join))
"""


def test_a_cluster_without_its_token_is_refused_in_one_message(ray_local: None, tmp_path: Path) -> None:
    """Any embedded Ray requires a token. Ray's messages about its twenty attempts are suppressed."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", _JOINING, address]
    settings = environment() | {"HOME": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"error: The cluster at {address} requires a token, and none that it accepts was found. Set "
        "RAY_AUTH_MODE=token, and put the token into RAY_AUTH_TOKEN or into ~/.ray/auth_token.\n"
    )


_REFUSED = """
import sys, threading, time
import ray
from cluster.errors import UserError
from cluster.ray_data import blocks_of
from cluster.session import ray_session
from pipeline.cli.main import guarded
from pipeline.cli.log_lines import configure_logging
from ray.data._internal.execution.streaming_executor import StreamingExecutor

def refuse():
    with ray_session("local", cpus=2):
        blocks = blocks_of(ray.data.range(4, override_num_blocks=4).map_batches(lambda batch: batch, batch_size=1))
        assert next(blocks).num_rows
        while any(isinstance(thread, StreamingExecutor) for thread in threading.enumerate()):
            time.sleep(0.1)
        raise UserError("The first shard is refused.", "Mend it.")

configure_logging()
code = guarded(refuse)
sys.exit("another Ray was started" if ray.is_initialized() else code)
"""


@pytest.mark.slow
def test_a_refusal_after_all_work_is_done_is_the_last_word() -> None:
    """Ray Data has then finished all shards, but the iterator over them is open until the error is collected."""
    command = [sys.executable, "-c", _REFUSED]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "error: The first shard is refused. Mend it.\n")
