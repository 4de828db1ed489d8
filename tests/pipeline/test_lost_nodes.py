"""A run on a cluster that loses a node, or all of Ray, while samples are scored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cluster.shards import finished_shards
from cluster.storage import Storage
from pipeline.manifest import read_manifest
from tests.killing import ROOT
from tests.ray_cluster import Cluster, several_nodes
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

SHARDS = list(range(24))
_PATIENCE = 900.0


def start(small_run: SmallRun, run: Storage, cluster: Cluster) -> subprocess.Popen[str]:
    """The run up to the coreset, with two workers as long as there is room for them."""
    command = [sys.executable, "-m", "pipeline", "run", str(small_run.config), "--run-dir", run.uri]
    command += ["--until", "select", "--set", f"cluster.address={cluster.address}", "--set", "cluster.actors=2"]
    # A driver whose cluster is gone is to notice in seconds.
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_within(
    driver: subprocess.Popen[str], scores: Storage, nodes: list[subprocess.Popen[bytes]], kill: Callable[[], None]
) -> set[int]:
    """Kill nodes when some shards are finished and others are not; those that are."""
    end = time.monotonic() + _PATIENCE
    while len(done := finished_shards(scores, SHARDS)) < 2:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.002)
    # What stands still finishes nothing, so what is looked at next is what the kill meets.
    for node in nodes:
        os.killpg(node.pid, signal.SIGSTOP)
    done = finished_shards(scores, SHARDS)
    assert len(done) < len(SHARDS)
    assert read_manifest(scores) is None
    kill()
    return set(done)


def test_lost_nodes_change_nothing(small_run: SmallRun, tmp_path: Path) -> None:
    """One is lost in influence, another in effort, and the last one ends what is left."""
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    scores = {stage: run.child("scores", stage) for stage in ("influence", "effort")}
    with several_nodes(cpus=1) as cluster:
        nodes = [cluster.add_node(cpus=1) for _ in scores]
        driver = start(small_run, run, cluster)
        for stage, node in zip(scores, nodes, strict=True):
            kill_within(driver, scores[stage], cluster.alive(), partial(cluster.lose, node))
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    for folder in scores.values():
        manifest = read_manifest(folder)
        assert manifest is not None
        assert manifest.attempts == 1
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")


def test_ray_restarted_goes_on_where_it_was(small_run: SmallRun, tmp_path: Path) -> None:
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate", "scores/influence"))
    scores = run.child("scores", "effort")
    with several_nodes(cpus=2) as cluster:
        driver = start(small_run, run, cluster)
        done = kill_within(driver, scores, cluster.alive(), cluster.end)
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode not in (0, 2), said
    assert read_manifest(scores) is None
    before = {index: record for index, record in finished_shards(scores, SHARDS).items() if index in done}

    with several_nodes(cpus=2) as cluster:
        driver = start(small_run, run, cluster)
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    after = finished_shards(scores, SHARDS)
    assert {index: after[index] for index in before} == before
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")
