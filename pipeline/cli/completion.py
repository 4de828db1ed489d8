"""`dealrec completion`: a script with which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec

from cluster.errors import UserError
from pipeline.cli.console import write_now

SHELLS = ("bash", "zsh", "fish")
#: shtab's script for zsh completes only where it is evaluated; with this condition also where it is sourced.
_EVALUATED, _READ = "$zsh_eval_context[-1] == eval ", "$zsh_eval_context[-1] == (eval|file|filecode) "
#: What the arguments of these names are, so that the shell offers files or folders.
_FILES, _FOLDERS = ("CONFIG", "FILE", "FILE|all"), ("DIR", "RUN")


def completion(options: argparse.Namespace) -> int:
    """Write the script of the parser `options.parser` for `options.shell` to standard output."""
    write_now(completion_script(options.parser, options.shell))
    return 0


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Make the script from the parser by shtab. Raises `UserError` if shtab is not installed."""
    if find_spec("shtab") is None:
        raise UserError("Completion scripts are made by shtab, which is not installed.", "pip install shtab")
    import shtab

    for action in _actions(parser):
        if action.metavar in (*_FILES, *_FOLDERS):
            action.complete = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell)).replace(_EVALUATED, _READ)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of the parser and of all its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
