"""The API in a process of its own: it starts a Ray, stops it, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.project_root import PROJECT_ROOT
from tests.small_log import write_log

pytestmark = pytest.mark.slow

_SCRIPT = """
import os, signal, sys, threading
import psutil
import dealrec

def asked(run_dir):
    return dealrec.run(
        {"interactions": sys.argv[1], "split": "leave_one_out"},
        samples={"max_history": 8},
        cluster={"cpus": 2, "gpus": 0},
        until="ingest",
        run_dir=run_dir,
    )

def mine(number, frame):
    raise SystemExit(7)

signal.signal(signal.SIGTERM, mine)
asked("one")
import ray
assert not ray.is_initialized()
assert signal.getsignal(signal.SIGTERM) is mine
left = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
assert left == [], left

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
node = ray.get_runtime_context().get_node_id()
failed = []
def in_a_thread():
    try:
        asked("two")
    except BaseException as error:
        failed.append(error)
thread = threading.Thread(target=in_a_thread)
thread.start()
thread.join()
assert not failed, failed
assert ray.is_initialized() and ray.get_runtime_context().get_node_id() == node
ray.shutdown()
"""


def test_a_ray_that_is_started_is_stopped_and_one_that_is_there_is_left(tmp_path: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    log = write_log(tmp_path / "log.parquet")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, str(script), str(log)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""


def test_a_file_that_workers_would_import_is_named_before_anything_starts(tmp_path: Path) -> None:
    """The driver of a command does not see the current folder, its workers would."""
    (tmp_path / "training.py").write_text("")
    (tmp_path / "bin").mkdir()
    start = tmp_path / "bin" / "start.py"
    start.write_text("from pipeline.cli.main import entry\nentry()\n")
    log = write_log(tmp_path / "log.parquet")
    (tmp_path / "c.yaml").write_text(f"data: {{interactions: {log}, split: leave_one_out}}\n")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, str(start), "run", "c.yaml", "--until", "ingest", "--set", "cluster.gpus=0"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "training.py") in line
