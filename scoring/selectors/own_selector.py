"""A user's own selector, `module:Class`: loaded, checked, and run so that its faults are reported as its own."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.exceptions import SelectorError, SettingError, TooFewSamplesError
from scoring.ragged import Ragged
from scoring.reference import Reference, ReferenceShard, required_reference
from scoring.selectors.base import Selection, SelectionParams, Selector, SelectorSettings
from scoring.selectors.draw_keys import DRAWS
from scoring.selectors.score_shard import FEATURES, SCORES, ScoreShard, Shards

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
#: What a subclass may write, and what each is given beside itself.
_HOOKS = {"fit": ("log",), "rank": ("shard",), "facts": ("log", "chosen"), "warnings": ("log", "chosen")}


def is_own(method: str) -> bool:
    """Tell whether a method names a user's own class."""
    return _NAME.fullmatch(method) is not None


def load_own(method: str) -> type[Selector]:
    """Import the class that `module:Class` names, and return it.

    Raises
    ------
    SettingError : it cannot be imported, or is not a usable selector.
    """
    module, _, name = method.partition(":")
    try:
        found = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise SettingError(f"'{method}' cannot be imported: {error}") from error
        raise SettingError(
            f"'{method}' cannot be imported: there is no module {error.name}; put it on the PYTHONPATH, or into the "
            "checkout that a job ships"
        ) from error
    except (Exception, SystemExit) as error:
        raise SettingError(f"'{method}' cannot be imported: {type(error).__name__}: {error}") from error
    if found is None:
        raise SettingError(f"'{method}': the module {module} has no class {name}")
    if not (isinstance(found, type) and issubclass(found, Selector)):
        raise SettingError(f"'{method}' is no selector; derive the class from scoring.selectors.base.Selector")
    lack = _lack(found)
    if lack:
        raise SettingError(f"'{method}' {lack}")
    return found


def _lack(kind: type[Selector]) -> str:
    """Say what is wrong with a class before anything is asked of it; empty where nothing is."""
    if inspect.isabstract(kind):
        return f"must define {', '.join(sorted(kind.__abstractmethods__))}"
    if kind.__init__ is not Selector.__init__:
        return "defines __init__; a selector prepares in fit, and finds its settings in self.settings"
    for key, known in (("scores", SCORES), ("features", FEATURES), ("may_lack", FEATURES)):
        names: Any = getattr(kind, key)
        if not (isinstance(names, tuple) and all(name in known for name in names)):
            return f"has {key} = {names!r}, which must be a tuple of names out of {', '.join(known)}"
    if kind.draw not in DRAWS:
        return f"has draw = {kind.draw!r}, which must be one of {', '.join(DRAWS)}"
    if not isinstance(kind.sees_validation, bool):
        return f"has sees_validation = {kind.sees_validation!r}, which must be True or False"
    if not (isinstance(kind.Settings, type) and issubclass(kind.Settings, SelectorSettings)):
        return "has Settings that do not derive from scoring.selectors.base.SelectorSettings"
    for hook, arguments in _HOOKS.items():
        try:
            inspect.signature(getattr(kind, hook)).bind(kind, *arguments)
        except TypeError:
            return f"must define {hook} with the arguments (self, {', '.join(arguments)})"
    return ""


class _Outside(BaseException):
    """What reading the samples has raised, which is not the selector's fault; no `except Exception` of its stops it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def select_by_own(
    kind: type[Selector], shards: Shards, params: SelectionParams, reference: Reference | None
) -> Selection:
    """Select like `Selector.select`; a fault in the class becomes a SelectorError that names the line."""

    def read() -> Iterator[ScoreShard]:
        try:
            yield from shards()
        except Exception as error:
            raise _Outside(error) from error

    made = kind(params.settings)
    if kind.sees_validation:
        required_reference(reference, params.method)
    try:
        selection = made.select(read, params, None if reference is None else _guarded(reference))
    except _Outside as outside:
        raise outside.error from None
    except (SelectorError, TooFewSamplesError, MemoryError):
        raise
    except Exception as error:
        place = _place(kind, error.__traceback__)
        raise SelectorError(f"{type(error).__name__}: {error}{f' ({place})' if place else ''}") from error
    try:
        json.dumps(selection.report, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise SelectorError(f"facts gave what JSON cannot hold: {error}") from error
    return selection


def _guarded(reference: Reference) -> Reference:
    """Yield the same samples; an error in reading or embedding them is not the selector's."""

    def read() -> Iterator[ReferenceShard]:
        try:
            yield from reference.shards()
        except Exception as error:
            raise _Outside(error) from error

    def embed(history: Ragged, target: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        assert reference.embed is not None
        try:
            return reference.embed(history, target)
        except Exception as error:
            raise _Outside(error) from error

    return replace(reference, shards=read, embed=None if reference.embed is None else embed)


def _place(kind: type[Selector], traceback: TracebackType | None) -> str:
    """Return the innermost line of the class's module, or of one that it derives from, as "file, line N"."""
    own = {each.__module__ for each in kind.__mro__ if issubclass(each, Selector) and each.__module__ != __name__}
    own = {name for name in own if not name.startswith("scoring.")}
    place = ""
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") in own:
            place = f"{Path(traceback.tb_frame.f_code.co_filename).name}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
