"""A run on a cluster that loses a scoring worker, a node, all of Ray, or a broadcast, while samples are scored."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cluster.shards import finished_shards
from cluster.storage import Storage
from pipeline.engine.manifest import read_manifest
from tests.killing import start
from tests.ray_cluster import Cluster, environment, several_nodes
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

SHARDS = list(range(24))
_PATIENCE = 900.0


def begin(small_run: SmallRun, run: Storage, cluster: Cluster, actors: int, *settings: str) -> subprocess.Popen[str]:
    """The run up to the coreset, with one actor on each node."""
    command = ["run", str(small_run.config), "--run-dir", run.uri, "--until", "select"]
    for setting in (f"cluster.address={cluster.address}", f"cluster.actors={actors}", *settings):
        command += ["--set", setting]
    return start(command, environment())


def kill_within(
    driver: subprocess.Popen[str], scores: Storage, node: subprocess.Popen[bytes], kill: Callable[[], None]
) -> set[int]:
    """Kill when some shards are finished and others are in the hands of `node`; those that are finished."""
    end = time.monotonic() + _PATIENCE
    while len(finished_shards(scores, SHARDS)) < 2:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.002)
    # Its actor has a shard begun or waiting, so the stage cannot end while the node stands still.
    os.killpg(node.pid, signal.SIGSTOP)
    done = finished_shards(scores, SHARDS)
    assert len(done) < len(SHARDS)
    assert read_manifest(scores) is None
    kill()
    return set(done)


def lose_a_scorer(node: subprocess.Popen[bytes]) -> None:
    """SIGKILL the one process of a node that scores; the node goes on."""
    family = psutil.Process(node.pid).children(recursive=True)
    [scorer] = [process for process in family if "MapWorker" in " ".join(process.cmdline())]
    scorer.kill()
    scorer.wait(_PATIENCE)


def test_lost_workers_and_nodes_change_nothing(small_run: SmallRun, tmp_path: Path) -> None:
    """In influence and in effort a worker is lost and then a node; the last node ends what is left."""
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    scores = {stage: run.child("scores", stage) for stage in ("influence", "effort")}
    with several_nodes(cpus=0) as cluster:
        nodes = [cluster.add_node(cpus=1) for _ in range(3)]
        driver = begin(small_run, run, cluster, actors=3)
        for stage, node in zip(scores, nodes, strict=False):

            def kill(node: subprocess.Popen[bytes] = node) -> None:
                lose_a_scorer(nodes[-1])
                cluster.lose(node)

            kill_within(driver, scores[stage], node, kill)
            assert node.returncode == -signal.SIGKILL
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    for folder in scores.values():
        manifest = read_manifest(folder)
        assert manifest is not None
        assert manifest.attempts == 1
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")


def test_ray_restarted_goes_on_where_it_was(small_run: SmallRun, tmp_path: Path) -> None:
    """All of Ray is lost in influence, and again in effort."""
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    scores = {stage: run.child("scores", stage) for stage in ("influence", "effort")}
    before = {}
    for stage, folder in scores.items():
        with several_nodes(cpus=0) as cluster:
            nodes = [cluster.add_node(cpus=1) for _ in range(2)]
            driver = begin(small_run, run, cluster, actors=2)
            done = kill_within(driver, folder, nodes[0], cluster.end)
            said, _ = driver.communicate(timeout=_PATIENCE)
        assert driver.returncode not in (0, 2), said
        assert read_manifest(folder) is None
        before[stage] = {index: record for index, record in finished_shards(folder, SHARDS).items() if index in done}

    with several_nodes(cpus=2) as cluster:
        driver = begin(small_run, run, cluster, actors=2)
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    for stage, records in before.items():
        after = finished_shards(scores[stage], SHARDS)
        assert {index: after[index] for index in records} == records
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")


def test_the_loss_of_every_node_that_can_score_ends_the_run_in_time(small_run: SmallRun, tmp_path: Path) -> None:
    """No endless wait for a node that nobody brings; and the run goes on once somebody does."""
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate", "scores/influence"))
    scores = run.child("scores", "effort")
    with several_nodes(cpus=0) as cluster:
        node = cluster.add_node(cpus=1)
        driver = begin(small_run, run, cluster, 1, "cluster.wait_seconds=5")
        done = kill_within(driver, scores, node, lambda: cluster.lose(node))
        said, _ = driver.communicate(timeout=_PATIENCE)
        assert driver.returncode == 2, said
        assert "too few workers (1 needed, 1 CPU and " in said
        assert "for 5.0 s, and no other node has joined" in said
        assert read_manifest(scores) is None
        cluster.add_node(cpus=1)
        driver = begin(small_run, run, cluster, 1)
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    assert all(record.attempt == 1 for index, record in finished_shards(scores, SHARDS).items() if index in done)
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")


def test_lost_broadcasts_change_nothing(small_run: SmallRun, tmp_path: Path) -> None:
    """The surrogate's weights, and the direction that every sample is scored along."""
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    with several_nodes(cpus=0) as cluster:
        for _ in range(2):
            cluster.add_node(cpus=1)
        command = ["run", str(small_run.config), "--run-dir", run.uri, "--until", "select"]
        command += ["--set", f"cluster.address={cluster.address}", "--set", "cluster.actors=2"]
        driver = start(command, environment(), "tests.pipeline.losing_broadcasts")
        said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    assert "lost: _weights.safetensors" in said
    assert "lost: _direction.safetensors" in said
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")
