"""The options of each command are the arguments of its function, with the same defaults."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import dealrec
from pipeline.api.auditing import audit
from pipeline.api.comparing import compare
from pipeline.api.describing import schema
from pipeline.api.diagnosing import doctor
from pipeline.api.exporting import export
from pipeline.api.job_calls import jobs, logs, stop
from pipeline.api.planning import plan
from pipeline.api.recommending import recommend
from pipeline.api.running import run, run_stage
from pipeline.api.submitting import submit
from pipeline.cli.main import build_parser

#: What a command has for itself: how it prints, and whether it waits.
OF_COMMANDS = {"help", "json", "verbose", "follow", "config"}
#: What a function has for itself.
OF_FUNCTIONS = {"progress", "source", "stage", "sections", "write"}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "run": run,
    "ingest": run_stage,
    "report": run_stage,
    "compare": compare,
    "audit": audit,
    "export": export,
    "recommend": recommend,
    "doctor": doctor,
    "plan": plan,
    "submit": submit,
    "jobs": jobs,
    "logs": logs,
    "stop": stop,
    "schema": schema,
}
#: Commands that mean something to a shell alone.
OF_THE_SHELL = {"completion"}


def options_of(command: str) -> dict[str, Any]:
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {a.dest: inspect.Parameter.empty if a.required else a.default for a in action.choices[command]._actions}


@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_command_and_its_function_have_the_same_defaults(command: str) -> None:
    options = {name: value for name, value in options_of(command).items() if name not in OF_COMMANDS}
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(FUNCTIONS[command]).parameters.items()
        if name not in OF_FUNCTIONS
    }
    # A list of an option that may be repeated is an empty sequence.
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    assert options == parameters


def test_every_command_is_a_function_that_users_import() -> None:
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    stages = {name for name, parser in action.choices.items() if parser.get_default("stage")}
    commands = set(action.choices) - stages - OF_THE_SHELL
    assert commands == set(FUNCTIONS) - stages
    assert {name: getattr(dealrec, name) for name in commands} == {name: FUNCTIONS[name] for name in commands}
