"""The examples in the docstrings of the API, run on a small log."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import dealrec
from pipeline.api import python_wording
from tests.small_log import small_log
from tests.tiny_llm import make_tiny_llm

#: Modules of functions with examples, in an order in which each finds what it needs in the run directory.
MODULES = ("running", "run_result", "recommending", "comparing", "diagnosing", "describing")
#: Modules whose examples need a coreset and an LLM.
LLM_MODULES = ("exporting",)
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


@pytest.mark.slow
def test_the_examples_are_true(names: dict[str, object]) -> None:
    assert run_examples(MODULES, names) == 15


@pytest.mark.slow
def test_the_examples_on_a_coreset_are_true(ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    llm = {"model": str(make_tiny_llm(tmp_path / "llm")), "dtype": "float32", "max_tokens": 256}
    log = small_log().to_pandas()
    select = {"method": "random", "size": 0.25}
    run = dealrec.run({"interactions": log}, until="select", run_dir="runs/shop", select=select, llm=llm, **SMALL)
    assert run_examples(LLM_MODULES, {"dealrec": dealrec, "run": run}) == 2


def run_examples(modules: Sequence[str], names: dict[str, object]) -> int:
    """Run the examples of some modules of `pipeline.api`, and return their number."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    tried = 0
    for name in modules:
        for test in finder.find(importlib.import_module(f"pipeline.api.{name}"), extraglobs=names):
            runner.run(test)
            tried += len(test.examples)
    assert runner.summarize().failed == 0
    return tried


def test_the_examples_without_a_run_are_true() -> None:
    assert doctest.testmod(python_wording).attempted > 0
    assert doctest.testmod(python_wording).failed == 0
