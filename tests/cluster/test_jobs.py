"""A run submitted through the Ray Jobs API to a local cluster, followed to its end."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.jobs import open_client, submission_id
from cluster.place import PROJECT_ROOT
from tests.small_log import write_config, write_log
from tests.tiny_llm import make_tiny_llm


def test_the_same_run_has_the_same_id() -> None:
    assert submission_id("a: 1", "/runs/x", ()) == submission_id("a: 1", "/runs/x", ())
    assert submission_id("a: 1", "/runs/x", ()) != submission_id("a: 2", "/runs/x", ())
    assert submission_id("a: 1", "/runs/x", ()).startswith("dealrec-")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head() -> Iterator[str]:
    """The Jobs API of a cluster of one node, whose processes end with the command that started it."""
    port, dashboard = free_port(), free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=4"]
    process = subprocess.Popen(
        start,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    address = f"http://127.0.0.1:{dashboard}"
    _await(address)
    yield address
    process.terminate()
    process.wait()


def _await(address: str) -> None:
    for _ in range(120):
        with contextlib.suppress(UserError):
            open_client(address)
            return
        time.sleep(0.5)
    raise AssertionError(f"no cluster came up at {address}")


@pytest.mark.slow
def test_a_submitted_run_is_followed_to_its_end(head: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, write_log(tmp_path / "log.parquet"), make_tiny_llm(tmp_path / "llm"))
    command = [sys.executable, "-m", "pipeline", "submit", str(config), "--address", head]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "run")],
        cwd=PROJECT_ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert "report     done" in done.stdout
    jobs = subprocess.run(
        [sys.executable, "-m", "pipeline", "jobs", "--address", head, "--json"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "SUCCEEDED" in jobs.stdout
