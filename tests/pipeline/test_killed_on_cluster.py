"""Kills on a cluster of two nodes that goes on: of the driver in every stage, and of a worker that trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.shards import finished_shards
from cluster.storage import Storage
from pipeline.manifest import read_manifest
from tests.killing import ROOT, kill_when, start
from tests.ray_cluster import environment, several_nodes
from tests.small_run import SmallRun
from tests.training.killing import checkpoint_states

pytestmark = pytest.mark.slow

SHARDS = list(range(24))
#: Of the twenty test users.
CHUNKS = [0, 1]
FOLDERS = ("data", "surrogate", "scores/influence", "scores/effort", "coreset", "model", "eval", "report")
_PATIENCE = 900.0


def moments(run: Storage) -> list[Callable[[], bool]]:
    """In the midst of each stage: something is done, or at least begun."""
    checkpoints = {name: Path(run.child(name).uri, "_checkpoints") for name in ("surrogate", "model")}
    chunks = run.child("eval", "_chunks")
    some: dict[str, Callable[[], bool]] = {
        "surrogate": lambda: any(checkpoints["surrogate"].glob("surrogate-*/**/*.json")),
        "scores/influence": lambda: len(finished_shards(run.child("scores", "influence"), SHARDS)) >= 2,
        "scores/effort": lambda: len(finished_shards(run.child("scores", "effort"), SHARDS)) >= 2,
        "model": lambda: any(checkpoints["model"].glob("finetune-*/**/step-*.json")),
        "eval": lambda: bool(finished_shards(chunks, CHUNKS)),
    }

    def within(folder: str) -> Callable[[], bool]:
        stage = run.child(folder)

        def reached() -> bool:
            begun = stage.exists("_begun.json") and not stage.exists("_manifest.json")
            return begun and some.get(folder, lambda: True)()

        return reached

    return [within(folder) for folder in FOLDERS]


def lose_a_training_worker(command: list[str], scratch: Storage) -> int:
    """Run the command to its end, but SIGKILL a rank when it has saved a checkpoint; its process id."""
    known = {state["step"] for state in checkpoint_states(scratch, "finetune-")}
    driver = start(command, environment())
    killed, end = 0, time.monotonic() + _PATIENCE
    while not killed:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < end
        fresh = [state for state in checkpoint_states(scratch, "finetune-") if state["step"] not in known]
        if fresh:
            killed = int(fresh[-1]["workers"][-1]["pid"])
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.002)
    said, _ = driver.communicate(timeout=_PATIENCE)
    assert driver.returncode == 0, said
    return killed


def test_kills_on_a_cluster_change_nothing(small_run: SmallRun, tmp_path: Path) -> None:
    run = Storage.at(tmp_path / "run")
    command = ["run", str(small_run.config), "--run-dir", run.uri]
    # As many threads a training worker as in the undisturbed run, so the same bits.
    with several_nodes(cpus=4) as cluster:
        cluster.add_node(cpus=4)
        command += ["--set", f"cluster.address={cluster.address}", "--set", "cluster.actors=2"]
        kept = {}
        for folder, reached in zip(FOLDERS, moments(run), strict=True):
            kill_when(command, reached, environment())
            assert read_manifest(run.child(folder)) is None
            if folder.startswith("scores"):
                kept[folder] = finished_shards(run.child(folder), SHARDS)
            if folder == "model":
                killed = lose_a_training_worker([*command, "--until", "finetune"], run.child("model", "_checkpoints"))
        driver = [sys.executable, "-m", "pipeline", *command]
        assert subprocess.run(driver, cwd=ROOT, env=environment(), check=False).returncode == 0

    for folder in FOLDERS:
        manifest = read_manifest(run.child(folder))
        assert manifest is not None
        assert manifest.attempts == 2
    for folder, records in kept.items():
        after = finished_shards(run.child(folder), SHARDS)
        assert {index: after[index] for index in records} == records
    losses = run.read_json("model/losses.json")
    assert killed not in [worker["pid"] for worker in losses["workers"]]
    assert losses["steps"] == json.loads(small_run.run.read_text("model/losses.json"))["steps"]
    for name in ("surrogate/model.safetensors", "coreset/coreset.parquet", "model/adapter_model.safetensors"):
        assert run.read_bytes(name) == small_run.run.read_bytes(name)
    assert run.read_bytes("eval/predictions.parquet") == small_run.run.read_bytes("eval/predictions.parquet")
    data = [read_manifest(storage.child("data")) for storage in (run, small_run.run)]
    assert data[0] is not None
    assert data[1] is not None
    assert data[0].content == data[1].content
