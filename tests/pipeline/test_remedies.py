"""A message names no option that its reader does not have: those of a command written out, or of every command."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.project_root import PROJECT_ROOT
from cluster.storage import Storage
from pipeline.cli.main import build_parser, main
from pipeline.engine.config import Config
from pipeline.engine.config_file import load_config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.stages.feature_list import FEATURE_STAGES
from pipeline.stages.stage_list import STAGE_NAMES, STAGES, arm_stages
from pipeline.studies.audit.audit_stages import AUDIT_STAGES
from pipeline.studies.compare.untuned_stage import UNTUNED_STAGE
from tests.small_log import write_config, write_log

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
#: A command of ours up to the end of its quotation, or of its part of the sentence.
COMMAND = re.compile(r"`dealrec ([a-z]+|\{\})([^`]*)`|dealrec ([a-z]+|\{\})((?: (?:CONFIG|\{\}|%s|--\S+|http\S+))*)")
#: Commands of other programs: in quotation marks, in a shell's substitution, or pip's.
FOREIGN = re.compile(r"`(?!dealrec )[^`]*`|\$\([^)]*\)|pip install [^.;]*")
#: The commands that work on a run: whoever reads a message may have given any of them.
OF_A_RUN = ("run", *STAGE_NAMES, "compare", "audit", "export", "recommend", "plan", "submit")
#: The commands that come to some places, where these are fewer.
READERS = {
    "pipeline/studies/compare/": ("compare",),
    "pipeline/studies/audit/": ("audit",),
    "pipeline/export/": ("export",),
    "pipeline/recommend/": ("recommend",),
    "pipeline/studies/forecast/": ("plan",),
    "cluster/jobs.py:submit_job": ("submit",),
    "cluster/jobs.py": ("submit", "jobs", "logs", "stop"),
    "cluster/follow.py": ("submit", "logs"),
    "pipeline/driver/run_directory.py:chosen_stages": ("run",),
    "pipeline/cli/commands.py:_follow": ("submit", "logs"),
    "pipeline/api/job_calls.py": ("submit", "jobs", "logs", "stop"),
    "pipeline/api/comparing.py": ("compare",),
    "pipeline/api/exporting.py": ("export",),
    "pipeline/api/recommending.py": ("recommend",),
    "pipeline/api/submitting.py": ("submit",),
    **{f"pipeline/cli/commands.py:{command}": (command,) for command in (*OF_A_RUN, "doctor", "jobs", "logs", "stop")},
}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


OPTIONS = {
    name: {option for action in parser._actions for option in action.option_strings}
    for name, parser in subparsers().items()
}


def text_of(node: ast.expr) -> str:
    """The text of a string, with {} in place of what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


class Strings(ast.NodeVisitor):
    """Every string with an option in it, and the function it is in; neither docstrings nor what declares options."""

    def __init__(self) -> None:
        self.place = ""
        self.found: list[tuple[str, str]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, self.place = self.place, node.name
        self.generic_visit(node)
        self.place = before

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in ("add_argument", "add_parser")):
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.add(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        self.add(node)

    def add(self, node: ast.expr) -> None:
        text = text_of(node)
        # What is nothing but an option is given to a command, not said.
        if OPTION.search(text) and not OPTION.fullmatch(text):
            self.found.append((self.place, text))


def messages() -> Iterator[tuple[str, str]]:
    """What is said with an option in it, and where: FILE:FUNCTION."""
    for package in ("cluster", "pipeline", "training"):
        for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
            strings = Strings()
            strings.visit(ast.parse(path.read_text(encoding="utf-8")))
            for function, text in strings.found:
                yield f"{path.relative_to(PROJECT_ROOT)}:{function}", text


def lacking(place: str, text: str) -> list[str]:
    """The options of a message that a command does not have: each as COMMAND OPTION."""
    known = next((commands for prefix, commands in READERS.items() if place.startswith(prefix)), OF_A_RUN)
    found = []
    for quoted, its, bare, rest in COMMAND.findall(text):
        # What is filled in is the command of a stage.
        for command in ("run", "audit") if "{}" in (quoted, bare) else (quoted or bare,):
            found += [f"{command} {o}" for o in OPTION.findall(its + rest) if o not in OPTIONS.get(command, ())]
    others = OPTION.findall(FOREIGN.sub("", COMMAND.sub("", text)))
    return found + [f"{command} {o}" for o in others for command in known if o not in OPTIONS[command]]


def test_every_message_names_options_that_its_reader_has() -> None:
    said = list(messages())
    assert len(said) > 20
    assert {place: wrong for place, text in said if (wrong := lacking(place, text))} == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Recompute with --from surrogate.", "compare --from"),
        ("Recompute by `dealrec compare CONFIG --from untuned`.", "compare --from"),
        ("Follow it: dealrec logs %s --adress %s", "logs --adress"),
        ("Run dealrec select CONFIG --fresh, or not.", "select --fresh"),
    ],
)
def test_a_message_with_an_option_that_is_not_there_is_found(text: str, wrong: str) -> None:
    assert wrong in lacking("pipeline/stages/x.py:f", text)
    assert lacking("x", "Recompute by `dealrec run CONFIG --from x`, or give --run-dir or --set x=y.") == []


def test_every_stage_is_recomputed_by_a_command_that_takes_its_name(tmp_path: Path) -> None:
    config = Config.model_validate({"data": {"interactions": "x"}})
    for stage in (*STAGES, *FEATURE_STAGES, *AUDIT_STAGES):
        build_parser().parse_args([str(stage.command), "CONFIG", "--from", stage.name])
    for stage in (UNTUNED_STAGE, *arm_stages("random-n8-s0", config)):
        assert stage.command is None


def stale(tmp_path: Path, *stages: str) -> tuple[str, Storage]:
    """A config, and a run directory in which these stages are of another one."""
    file = write_config(tmp_path, write_log(tmp_path / "log.parquet"), tmp_path / "llm")
    run = Storage.at(tmp_path / "run")
    graph = Graph(STAGES, load_config(str(file), ["samples.max_history=3", "surrogate.hidden=32"]), run)
    for name in stages:
        stage = graph.stage(name)
        fingerprint = graph.fingerprint(stage) or Fingerprint({"select": {"seed": 5}}, {}, stage.version)
        Manifest(name, fingerprint, name, [], {}, 1.0, 1).write(graph.folder(stage))
    return str(file), run


def commands_in(message: str) -> list[list[str]]:
    return [command.split() for command in re.findall(r"`dealrec ([^`]*)`", message)]


@pytest.mark.parametrize(
    ("command", "stages", "expected"),
    [
        (["run"], ["ingest"], "run CONFIG --run-dir RUN --from ingest"),
        (["run"], ["ingest", "surrogate"], "run CONFIG --run-dir RUN --from ingest"),
        (["ingest"], ["ingest"], "run CONFIG --run-dir RUN --from ingest"),
        (["audit"], ["ingest"], "audit CONFIG --run-dir RUN --from ingest"),
        (["export"], ["ingest", "select"], "run CONFIG --run-dir RUN --from ingest"),
        (
            ["compare", "--target", "proxy", "--selectors", "random,ccs"],
            ["ingest", "surrogate"],
            "run CONFIG --run-dir RUN --from ingest --until surrogate",
        ),
        (["compare", "--selectors", "random"], ["ingest"], "run CONFIG --run-dir RUN --from ingest --until ingest"),
    ],
)
def test_a_run_of_another_config_is_refused_with_commands_that_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], stages: list[str], expected: str
) -> None:
    file, run = stale(tmp_path, *stages)
    name, *more = command
    assert main([name, file, "--run-dir", run.uri, *more]) == 2
    message = capsys.readouterr().err
    assert "samples.max_history was 3, is 8" in message
    found = commands_in(message)
    assert expected.replace("RUN", run.uri).split() in found
    for words in found:
        build_parser().parse_args(words)
    outside = re.sub(r"`[^`]*`", "", message)
    assert set(OPTION.findall(outside)) <= OPTIONS[name]


def test_an_export_that_cannot_be_written_names_its_own_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = stale(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["export", file, "--run-dir", run.uri, "--out", str(tmp_path / "file" / "out")]) == 2
    message = capsys.readouterr().err
    assert "Choose another --out" in message
    assert "--run-dir" not in message
