"""A selector of a user's own goes through a run and a comparison by its name alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.cli.main import main
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

CODE = """
from scoring.selectors.base import Selector

class Latest(Selector):
    features = ("timestamp",)

    def rank(self, shard):
        return shard.timestamp
"""


def test_a_run_selects_by_it_and_refuses_another_version_of_its_code(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "code" / "latest_selector.py"
    code.parent.mkdir()
    code.write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(code.parent))
    run = small_run.begin(tmp_path / "run", "data", "surrogate", "scores")
    command = ["run", str(small_run.config), "--run-dir", str(run), "--until", "select", "--set"]
    assert main([*command, "select.method=latest_selector:Latest"]) == 0
    report = Storage.at(run).read_json("coreset/selection.json")
    assert (report["method"], report["chosen"]) == ("latest_selector:Latest", report["budget"])
    code.write_text(CODE + "\n# Another version.\n", encoding="utf-8")
    capsys.readouterr()
    assert main([*command, "select.method=latest_selector:Latest"]) == 2
    assert "selector code changed" in capsys.readouterr().err
    assert main([*command, "select.method=latest_selector:Newest"]) == 2
    assert "has no class Newest" in capsys.readouterr().err


def test_a_comparison_has_it_as_an_arm(small_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run.begin(tmp_path / "run", "data", "surrogate", "scores")
    command = ["compare", str(small_run.config), "--run-dir", str(run), "--target", "proxy", "--proxies", "lexical"]
    command += ["--seeds", "1", "--sizes", "12"]
    own = "tests.own_selectors:Newest+skip=0.2"
    assert main([*command, "--selectors", f"random,{own}", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["comparison"]["rows"]
    assert own in {row["selector"] for row in rows}
    folder = Storage.at(run).child("arms", "tests.own_selectors.Newest+skip=0.2-n12-s0", "coreset")
    # The run has select.strata: 6, which every selector with that setting is given.
    assert folder.read_json("selection.json")["settings"] == {"skip": 0.2, "strata": 6}
    assert main([*command, "--selectors", "random,tests.own_selectors:Fails"]) == 2
    assert "own_selectors.py, line" in capsys.readouterr().err
