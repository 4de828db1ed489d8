"""SIGTERM to the driver: nothing that was in hand is lost, and the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.shards import attempts_at, finished_shards
from cluster.storage import Storage
from pipeline.engine.manifest import read_begun, read_manifest
from tests.killing import go_on, stop_when
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

SHARDS = list(range(24))


def test_shards_in_hand_are_finished_and_the_run_goes_on(small_run: SmallRun, tmp_path: Path) -> None:
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate", "scores/influence"))
    command = ["run", str(small_run.config), "--run-dir", run.uri, "--until", "effort"]
    scores = run.child("scores", "effort")

    code, output = stop_when(command, lambda: len(finished_shards(scores, SHARDS)) >= 2)

    assert code == 128 + 15, output
    assert "The same command continues" in output
    assert "Traceback" not in output
    done = finished_shards(scores, SHARDS)
    assert set(attempts_at(scores, SHARDS)) == set(done)
    assert 2 <= len(done) < len(SHARDS)
    assert read_manifest(scores) is None
    begun = read_begun(scores)
    assert begun is not None
    assert begun.seconds > 0
    events = [json.loads(line) for line in run.read_text("events.jsonl").splitlines()]
    assert events[-1]["event"] == "stage_stopped"

    go_on(command)
    after = finished_shards(scores, SHARDS)
    assert {after[index].attempt for index in SHARDS} == {1}
    assert {index: after[index] for index in done} == done
    assert not scores.exists("_stop")
    manifest = read_manifest(scores)
    assert manifest is not None
    assert manifest.attempts == 2


@pytest.mark.parametrize(("stage", "complete"), [("surrogate", ["data"]), ("influence", ["data", "surrogate"])])
def test_what_has_no_shards_in_hand_is_left_at_once(
    small_run: SmallRun, tmp_path: Path, stage: str, complete: list[str]
) -> None:
    """While the driver waits for Ray Train, and for the sums behind the solve."""
    run = Storage.at(small_run.begin(tmp_path / "run", *complete))
    command = ["run", str(small_run.config), "--run-dir", run.uri, "--until", stage]
    folder = run.child(*(("surrogate",) if stage == "surrogate" else ("scores", "influence")))

    code, output = stop_when(command, lambda: read_begun(folder) is not None)

    assert code == 128 + 15, output
    assert "Traceback" not in output
    assert read_manifest(folder) is None
    events = [json.loads(line) for line in run.read_text("events.jsonl").splitlines()]
    assert (events[-1]["event"], events[-1]["stage"]) == ("stage_stopped", stage)
    go_on(command)
    assert read_manifest(folder) is not None
