"""SIGKILL of driver and workers in a stage; the same command then continues and ends as if undisturbed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.shards import ShardRecord, finished_shards
from cluster.storage import Storage
from pipeline.manifest import read_manifest
from tests.killing import kill_when, run_command
from tests.small_log import write_config, write_log
from tests.tiny_llm import make_tiny_llm

pytestmark = pytest.mark.slow

SHARDS = list(range(12))


class Case:
    """An undisturbed run, and what it takes to make another of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        log, llm = write_log(folder / "log.parquet"), make_tiny_llm(folder / "llm")
        self.config = write_config(folder, log, llm, finetune={"epochs": 4, "checkpoint_steps": 2})
        self.undisturbed = self.command("undisturbed")
        finished = run_command(self.undisturbed)
        assert finished.returncode == 0, finished.stderr
        self.expected = Storage.at(folder / "undisturbed")

    def begin(self, name: str, *complete: str) -> None:
        """A run directory in which the stages of these folders are done already, as in the undisturbed run."""
        for folder in complete:
            shutil.copytree(self.folder / "undisturbed" / folder, self.folder / name / folder)

    def command(self, name: str) -> list[str]:
        return ["run", str(self.config), "--run-dir", str(self.folder / name)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("killed"))


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
def test_killed_while_scoring(case: Case, stage: str, complete: list[str]) -> None:
    name = f"killed-{stage}"
    case.begin(name, *complete)
    scores = Storage.at(case.folder / name).child("scores", stage)
    kill_when(case.command(name), in_hand(scores))
    assert read_manifest(scores) is None
    finished = copy_of(finished_shards(scores, SHARDS), scores)
    lost = _begun(scores) - set(finished)
    assert finished
    assert lost

    resumed = run_command([*case.command(name), "--until", "select"])
    assert resumed.returncode == 0, resumed.stderr
    manifest = read_manifest(scores)
    assert manifest is not None
    assert manifest.attempts == 2
    after = finished_shards(scores, SHARDS)
    for index, (record, data) in finished.items():
        assert after[index] == record
        assert scores.read_bytes(f"part-{index:05d}.parquet") == data
    assert all(after[index].attempt == 2 for index in lost)
    assert set(after) == set(SHARDS)
    got = Storage.at(case.folder / name).read_bytes("coreset/coreset.parquet")
    assert got == case.expected.read_bytes("coreset/coreset.parquet")


def test_killed_while_tuning(case: Case) -> None:
    name = "killed-finetune"
    case.begin(name, "data", "surrogate", "scores", "coreset")
    model = Storage.at(case.folder / name).child("model")

    def reached() -> bool:
        checkpoints = Path(model.uri, "_checkpoints")
        return any(checkpoints.glob("finetune-*/**/step-*.json")) and not model.exists("_manifest.json")

    kill_when(case.command(name), reached)
    resumed = run_command([*case.command(name), "--until", "finetune"])
    assert resumed.returncode == 0, resumed.stderr
    manifest = read_manifest(model)
    assert manifest is not None
    assert manifest.attempts == 2
    expected = json.loads(case.expected.read_text("model/losses.json"))
    got = model.read_json("losses.json")
    assert got["steps"] == expected["steps"]
    assert got["train"] == expected["train"]
    assert got["valid"] == expected["valid"]
    weights = "model/adapter_model.safetensors"
    assert Storage.at(case.folder / name).read_bytes(weights) == case.expected.read_bytes(weights)


def test_killed_while_training_the_surrogate(case: Case) -> None:
    name = "killed-surrogate"
    case.begin(name, "data")
    folder = Storage.at(case.folder / name).child("surrogate")

    def reached() -> bool:
        return any(Path(folder.uri, "_checkpoints").glob("surrogate-*/**/*.json")) and not folder.exists(
            "_manifest.json"
        )

    kill_when(case.command(name), reached)
    resumed = run_command([*case.command(name), "--until", "surrogate"])
    assert resumed.returncode == 0, resumed.stderr
    weights = "surrogate/model.safetensors"
    assert Storage.at(case.folder / name).read_bytes(weights) == case.expected.read_bytes(weights)


def test_killed_while_ingesting(case: Case) -> None:
    name = "killed-ingest"
    data = Storage.at(case.folder / name).child("data")
    kill_when(case.command(name), lambda: data.exists("_begun.json"))
    resumed = run_command([*case.command(name), "--until", "ingest"])
    assert resumed.returncode == 0, resumed.stderr
    manifest, expected = read_manifest(data), read_manifest(case.expected.child("data"))
    assert manifest is not None
    assert expected is not None
    assert manifest.content == expected.content
