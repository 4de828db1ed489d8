from __future__ import annotations

from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.manifest import read_manifest
from tests.small_run import SmallRun


@pytest.mark.parametrize("command", ["run", "compare"])
def test_more_samples_than_there_are_is_refused_before_anything_is_trained(
    small_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    asked = {"run": ["--set", "select.size=9999"], "compare": ["--selectors", "random,full", "--sizes", "12,9999"]}
    run = Storage.at(tmp_path / "run")
    assert main([command, str(small_run.config), "--run-dir", run.uri, *asked[command]]) == 2
    message = capsys.readouterr().err
    assert "size" in message
    assert "9,999 samples are asked for" in message
    assert read_manifest(run.child("data")) is not None
    assert not run.exists("surrogate/_begun.json")
    assert not run.exists("arms/random-n12-s0/coreset/_manifest.json")


@pytest.mark.slow
def test_everything_has_no_size(small_run: SmallRun, tmp_path: Path) -> None:
    run = small_run.begin(tmp_path / "run", "data")
    command = ["run", str(small_run.config), "--run-dir", str(run), "--until", "select"]
    assert main([*command, "--set", "select.method=full", "--set", "select.size=9999"]) == 0
