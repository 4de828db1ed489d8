import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.config_file import parse_config
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, Stage, StageContext
from pipeline.engine.manifest import read_begun, read_manifest

Work = Callable[[StageContext], Mapping[str, Any]]


def config(**select: Any) -> Config:
    return parse_config({"data": {"interactions": "x"}, "select": select}, "c")


class Recorder:
    """Two stages, b after a, that write one file each and count their runs."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fail = ""

    def work(self, name: str) -> Work:
        def run(context: StageContext) -> Mapping[str, Any]:
            self.ran.append(name)
            context.out.write_text("half.txt", "begun")
            if self.fail == name:
                raise RuntimeError("broken")
            context.out.write_text("out.txt", f"{name} {context.config.select.size}")
            return {"ran": name}

        return run

    def graph(self, run: Storage, settings: Config) -> Graph:
        stages = (
            Stage("a", "fa", (), ("select.size",), 1, self.work("a")),
            Stage("b", "fb/deep", ("a",), ("select.seed",), 1, self.work("b")),
        )
        return Graph(stages, settings, run)


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


def test_complete_stages_are_skipped(run: Storage) -> None:
    recorder = Recorder()
    graph = recorder.graph(run, config())
    assert graph.execute(graph.stages, EventLog(run)) == {"a": "done", "b": "done"}
    assert graph.execute(graph.stages, EventLog(run)) == {"a": "complete", "b": "complete"}
    assert recorder.ran == ["a", "b"]
    manifest = read_manifest(run.child("fb", "deep"))
    assert manifest is not None
    assert manifest.facts == {"ran": "b"}
    assert [row["name"] for row in manifest.outputs] == ["half.txt", "out.txt"]


def test_a_failed_stage_is_not_complete_and_its_next_attempt_is_counted(run: Storage) -> None:
    recorder = Recorder()
    recorder.fail = "b"
    graph = recorder.graph(run, config())
    with pytest.raises(RuntimeError, match="broken"):
        graph.execute(graph.stages, EventLog(run))
    assert read_manifest(run.child("fb", "deep")) is None
    begun = read_begun(run.child("fb", "deep"))
    assert begun is not None
    assert begun.attempts == 1
    recorder.fail = ""
    graph.execute(graph.stages, EventLog(run))
    manifest = read_manifest(run.child("fb", "deep"))
    assert manifest is not None
    assert manifest.attempts == 2
    assert recorder.ran == ["a", "b", "b"]
    events = run.read_text("events.jsonl")
    assert '"stage_failed"' in events
    assert events.count('"stage_done"') == 2


def test_storage_that_goes_does_not_hide_why_a_stage_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Storage.at(tmp_path / "run")

    def lose(context: StageContext) -> Mapping[str, Any]:
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("no folder any more")
        raise RuntimeError("the disk went away")

    graph = Graph((Stage("a", "fa", (), ("select.size",), 1, lose),), config(), run)
    with pytest.raises(RuntimeError, match="the disk went away"):
        graph.execute(graph.stages, EventLog(run))
    assert "Could not record how a ended" in caplog.text


def test_another_config_is_refused_with_its_keys(run: Storage) -> None:
    recorder = Recorder()
    graph = recorder.graph(run, config(size=10))
    graph.execute(graph.stages, EventLog(run))
    other = recorder.graph(run, config(size=20, seed=5))
    with pytest.raises(UserError, match=r"stage a for another config: select.size was 10.0, is 20.0") as caught:
        other.check(other.stages)
    assert f"`dealrec run CONFIG --run-dir {run.uri} --from a`" in str(caught.value)


def test_an_incomplete_stage_of_another_config_is_refused_too(run: Storage) -> None:
    recorder = Recorder()
    recorder.fail = "a"
    graph = recorder.graph(run, config(size=10))
    with pytest.raises(RuntimeError, match="broken"):
        graph.execute(graph.stages, EventLog(run))
    other = recorder.graph(run, config(size=20))
    with pytest.raises(UserError, match=r"select\.size"):
        other.execute(other.stages, EventLog(run))


def test_an_elastic_key_may_change_until_the_stage_is_complete(run: Storage) -> None:
    recorder = Recorder()
    recorder.fail = "a"

    def graph(**select: Any) -> Graph:
        made = recorder.graph(run, config(**select))
        first = replace(made.stages[0], keys=("select.size", "select.strata"), elastic=("select.size",))
        return replace(made, stages=(first, *made.stages[1:]))

    with pytest.raises(RuntimeError, match="broken"):
        graph(size=10).execute(graph().stages, EventLog(run))
    recorder.fail = ""
    with pytest.raises(UserError, match=r"select\.strata") as caught:
        graph(size=20, strata=3).check(graph().stages)
    assert "select.size" not in caught.value.message
    resumed = graph(size=20)
    resumed.check(resumed.stages)
    resumed.execute(resumed.stages, EventLog(run))
    manifest = read_manifest(run.child("fa"))
    assert manifest is not None
    assert manifest.attempts == 2
    assert manifest.fingerprint.config["select.size"] == 20
    with pytest.raises(UserError, match=r"select\.size was 20.0, is 30.0"):
        graph(size=30).check(resumed.stages)


def test_a_later_key_leaves_earlier_stages_alone(run: Storage) -> None:
    recorder = Recorder()
    graph = recorder.graph(run, config())
    graph.execute(graph.stages, EventLog(run))
    other = recorder.graph(run, config(seed=9))
    with pytest.raises(UserError, match=r"stage b for another config: select\.seed was 0, is 9"):
        other.check(other.stages)
    other.discard(other.after("b"))
    assert other.execute(other.stages, EventLog(run)) == {"a": "complete", "b": "done"}


def test_a_stage_is_checked_though_one_before_it_waits(run: Storage) -> None:
    recorder = Recorder()

    def graph(seed: int) -> Graph:
        first = recorder.graph(run, config(seed=seed))
        alone = Stage("c", "fc", (), ("select.seed",), 1, recorder.work("c"))
        return replace(first, stages=(*first.stages, alone))

    graph(1).execute(graph(1).stages[2:], EventLog(run))
    with pytest.raises(UserError, match=r"stage c for another config: select\.seed was 1, is 2"):
        graph(2).check(graph(2).stages)


def test_a_changed_input_invalidates_what_reads_it(run: Storage) -> None:
    recorder = Recorder()
    graph = recorder.graph(run, config(size=10))
    graph.execute(graph.stages, EventLog(run))
    changed = recorder.graph(run, config(size=20))
    changed.discard([changed.stage("a")])
    with pytest.raises(UserError, match=r"stage b for another config: a changed: was"):
        changed.execute(changed.stages, EventLog(run))


def test_recomputing_a_stage_takes_all_that_follows(run: Storage) -> None:
    recorder = Recorder()
    graph = recorder.graph(run, config())
    graph.execute(graph.stages, EventLog(run))
    graph.discard(graph.after("a"))
    assert not run.exists("fb/deep/out.txt")
    graph.execute(graph.stages, EventLog(run))
    assert recorder.ran == ["a", "b", "a", "b"]


def test_a_stage_without_its_inputs_says_what_to_run(run: Storage) -> None:
    graph = Recorder().graph(run, config())
    with pytest.raises(UserError, match=r"Stage b needs a, which is not complete .* Run `dealrec a CONFIG` first"):
        graph.execute([graph.stage("b")], EventLog(run))
