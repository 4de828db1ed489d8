"""Failing starts of a real Ray, each in its own process, since the tests share one Ray."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.ray_cluster import ROOT, environment

_FAILING = """
import json, os, sys
import psutil
from cluster.embedded import start_embedded
from cluster.errors import UserError
from pipeline.cli.log_lines import configure_logging

configure_logging()
said = {}
for number, (name, value) in enumerate(json.loads(sys.argv[1])):
    os.environ[name] = value
    try:
        start_embedded(1, None, pause_seconds=0.0, patience_seconds=1e6)
        raise SystemExit("Ray started")
    except UserError as error:
        said[number] = [str(error), [child.name() for child in psutil.Process().children(recursive=True)]]
    del os.environ[name]
print(json.dumps(list(said.values())))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


def test_a_start_that_fails_is_the_users_to_mend_and_leaves_nothing_running() -> None:
    long = "/tmp/" + "x" * 100
    settings = [
        ("RAY_TMPDIR", "/dev/null/x"),
        ("RAY_TMPDIR", long),
        ("RAY_gcs_server_port_wait_time_s", "soon"),
        ("RAY_gcs_server_port_wait_time_s", "-1"),
    ]
    ended = run(_FAILING, json.dumps(settings))
    assert ended.returncode == 0, ended.stderr
    folder, name, value, patience = json.loads(ended.stdout)
    assert folder[0] == (
        "Ray did not start on this machine: [Errno 20] Not a directory: '/dev/null/x'. "
        "Ray uses /dev/null/x/ray: fix what is wrong there, or set RAY_TMPDIR to another folder."
    )
    assert "its folder's name is too long" in name[0]
    assert "Set RAY_TMPDIR to a short path" in name[0]
    assert "'soon'. Correct or remove the RAY_... environment variable" in value[0]
    assert "(3 attempts): its processes were not ready in time. Free CPU" in patience[0]
    assert [left for _, left in (folder, name, value, patience)] == [[]] * 4
    # Only the last setting is retried; the others would fail again.
    assert ended.stderr == "Ray did not start: its processes were not ready in time. Trying again.\n" * 2


_DYING = """
import contextlib, sys, threading, time
import psutil, ray
from cluster.embedded import start_embedded

def kill_first():
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process().children():
                if child.name() == "raylet":
                    return child.kill()
        time.sleep(0.005)

threading.Thread(target=kill_first, daemon=True).start()
from pipeline.cli.main import guarded
from pipeline.cli.log_lines import configure_logging

def work():
    start_embedded(1, None, pause_seconds=0.0, patience_seconds=1e6)
    found = ray.get(ray.remote(lambda: 5).remote())
    ray.shutdown()
    return 0 if found == 5 else 1

configure_logging()
sys.exit(guarded(work))
"""


@pytest.mark.slow
def test_a_start_that_fails_once_is_tried_again() -> None:
    ended = run(_DYING)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "Ray did not start: its process raylet exited during startup. Trying again.\n"
