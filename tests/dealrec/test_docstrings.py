"""The examples in the docstrings of the API, run on a small log."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import dealrec
from pipeline.api import python_wording
from tests.small_log import small_log

#: Modules of functions with examples, in an order in which each finds what it needs in the run directory.
MODULES = ("running", "run_result", "comparing", "diagnosing", "exporting", "planning", "auditing")
SMALL: dict[str, Any] = {"surrogate": {"hidden": 16, "epochs": 1}, "cluster": {"actors": 1, "gpus": 0}}


@pytest.fixture
def names(ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the examples speak of: a log, and a run of it in the current folder."""
    monkeypatch.chdir(tmp_path)
    log = small_log(users=24).to_pandas()
    select = {"method": "random", "size": 0.25}
    source = {"interactions": log, "split": "leave_one_out"}
    run = dealrec.run(source, select=select, until="ingest", run_dir="runs/shop", **SMALL)
    return {"dealrec": dealrec, "log": log, "run": run}


def test_the_examples_are_true(names: dict[str, object]) -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    tried = 0
    for name in MODULES:
        module = importlib.import_module(f"pipeline.api.{name}")
        for test in finder.find(module, extraglobs=names):
            runner.run(test)
            tried += len(test.examples)
    assert runner.summarize().failed == 0
    assert tried > 10


def test_the_examples_without_a_run_are_true() -> None:
    assert doctest.testmod(python_wording).attempted > 0
    assert doctest.testmod(python_wording).failed == 0
