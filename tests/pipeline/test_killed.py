"""SIGKILL of driver, workers and Ray in a stage; the same command then continues and ends as if undisturbed.

The other stages: test_killed_on_cluster.py.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.shards import ShardRecord, finished_shards
from cluster.storage import Storage
from pipeline.engine.manifest import read_manifest
from tests.killing import go_on, kill_when
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

SHARDS = list(range(24))


def begin(small_run: SmallRun, folder: Path, *complete: str) -> tuple[Storage, list[str]]:
    """A run that has some stages done already, and the command that goes on with it."""
    run = small_run.begin(folder / "run", *complete)
    return Storage.at(run), ["run", str(small_run.config), "--run-dir", str(run)]


def in_hand(scores: Storage) -> Callable[[], bool]:
    """Whether some shards are finished and one is begun and not finished."""

    def reached() -> bool:
        done = finished_shards(scores, SHARDS)
        return 2 <= len(done) < len(SHARDS) and bool(_begun(scores) - set(done))

    return reached


def _begun(scores: Storage) -> set[int]:
    return {int(name.split("-")[1].split(".")[0]) for name in scores.list("_shards", suffix=".attempt")}


def copy_of(records: dict[int, ShardRecord], scores: Storage) -> dict[int, tuple[ShardRecord, bytes]]:
    return {index: (record, scores.read_bytes(f"part-{index:05d}.parquet")) for index, record in records.items()}


@pytest.mark.parametrize(
    ("stage", "complete"),
    [("influence", ["data", "surrogate"]), ("effort", ["data", "surrogate", "scores/influence"])],
)
def test_killed_while_scoring(small_run: SmallRun, tmp_path: Path, stage: str, complete: list[str]) -> None:
    run, command = begin(small_run, tmp_path, *complete)
    scores = run.child("scores", stage)
    kill_when(command, in_hand(scores))
    assert read_manifest(scores) is None
    finished = copy_of(finished_shards(scores, SHARDS), scores)
    lost = _begun(scores) - set(finished)
    assert finished
    assert lost

    go_on([*command, "--until", "select"])
    manifest = read_manifest(scores)
    assert manifest is not None
    assert manifest.attempts == 2
    after = finished_shards(scores, SHARDS)
    for index, (record, data) in finished.items():
        assert after[index] == record
        assert scores.read_bytes(f"part-{index:05d}.parquet") == data
    assert all(after[index].attempt == 2 for index in lost)
    assert set(after) == set(SHARDS)
    assert run.read_bytes("coreset/coreset.parquet") == small_run.run.read_bytes("coreset/coreset.parquet")


def test_killed_while_tuning(small_run: SmallRun, tmp_path: Path) -> None:
    run, command = begin(small_run, tmp_path, "data", "surrogate", "scores", "coreset")
    model = run.child("model")

    def reached() -> bool:
        checkpoints = Path(model.uri, "_checkpoints")
        return any(checkpoints.glob("finetune-*/**/step-*.json")) and not model.exists("_manifest.json")

    kill_when(command, reached)
    go_on([*command, "--until", "finetune"])
    manifest = read_manifest(model)
    assert manifest is not None
    assert manifest.attempts == 2
    expected = json.loads(small_run.run.read_text("model/losses.json"))
    got = model.read_json("losses.json")
    assert got["steps"] == expected["steps"]
    assert got["train"] == expected["train"]
    assert got["valid"] == expected["valid"]
    weights = "model/adapter_model.safetensors"
    assert run.read_bytes(weights) == small_run.run.read_bytes(weights)


def test_killed_while_training_the_surrogate(small_run: SmallRun, tmp_path: Path) -> None:
    run, command = begin(small_run, tmp_path, "data")
    folder = run.child("surrogate")

    def reached() -> bool:
        return any(Path(folder.uri, "_checkpoints").glob("surrogate-*/**/*.json")) and not folder.exists(
            "_manifest.json"
        )

    kill_when(command, reached)
    go_on([*command, "--until", "surrogate"])
    weights = "surrogate/model.safetensors"
    assert run.read_bytes(weights) == small_run.run.read_bytes(weights)
