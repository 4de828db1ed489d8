"""Kills on a cluster of two nodes that goes on: of the driver in every stage, and of a worker that trains."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.shards import finished_shards
from cluster.storage import Storage
from pipeline.engine.manifest import read_manifest
from tests.killing import ROOT, kill_when
from tests.ray_cluster import environment, several_nodes
from tests.small_run import SmallRun
from tests.training.killing import Killer

pytestmark = pytest.mark.slow

SHARDS = list(range(24))
#: Of the twenty test users.
CHUNKS = [0, 1]
FOLDERS = ("data", "surrogate", "scores/influence", "scores/effort", "coreset", "model", "eval", "report")


def moments(run: Storage, killer: Killer) -> list[Callable[[], bool]]:
    """In the midst of each stage: something is done, or at least begun. Of fine-tuning, after a rank was lost."""
    checkpoints = Path(run.child("surrogate").uri, "_checkpoints")
    chunks = run.child("eval", "_chunks")
    some: dict[str, Callable[[], bool]] = {
        "surrogate": lambda: any(checkpoints.glob("surrogate-*/**/*.json")),
        "scores/influence": lambda: len(finished_shards(run.child("scores", "influence"), SHARDS)) >= 2,
        "scores/effort": lambda: len(finished_shards(run.child("scores", "effort"), SHARDS)) >= 2,
        "model": killer.is_replaced,
        "eval": lambda: bool(finished_shards(chunks, CHUNKS)),
    }

    def within(folder: str) -> Callable[[], bool]:
        stage = run.child(folder)

        def reached() -> bool:
            begun = stage.exists("_begun.json") and not stage.exists("_manifest.json")
            return begun and some.get(folder, lambda: True)()

        return reached

    return [within(folder) for folder in FOLDERS]


def test_kills_on_a_cluster_change_nothing(small_run: SmallRun, tmp_path: Path) -> None:
    run = Storage.at(tmp_path / "run")
    command = ["run", str(small_run.config), "--run-dir", run.uri]
    # As many threads a training worker as in the undisturbed run, so the same bits.
    with several_nodes(cpus=4) as cluster:
        cluster.add_node(cpus=4)
        command += ["--set", f"cluster.address={cluster.address}", "--set", "cluster.actors=2"]
        kept = {}
        killer = Killer(run.child("model", "_checkpoints"), "finetune-")
        for folder, reached in zip(FOLDERS, moments(run, killer), strict=True):
            if folder == "model":
                killer.start()
            kill_when(command, reached, environment())
            assert read_manifest(run.child(folder)) is None
            if folder.startswith("scores"):
                kept[folder] = finished_shards(run.child(folder), SHARDS)
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
    assert killer.killed not in [worker["pid"] for worker in losses["workers"]]
    assert losses["steps"] == json.loads(small_run.run.read_text("model/losses.json"))["steps"]
    for name in ("surrogate/model.safetensors", "coreset/coreset.parquet", "model/adapter_model.safetensors"):
        assert run.read_bytes(name) == small_run.run.read_bytes(name)
    assert run.read_bytes("eval/predictions.parquet") == small_run.run.read_bytes("eval/predictions.parquet")
    data = [read_manifest(storage.child("data")) for storage in (run, small_run.run)]
    assert data[0] is not None
    assert data[1] is not None
    assert data[0].content == data[1].content
