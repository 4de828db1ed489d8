"""The names of selectors in a comparison: a method and the settings that differ, as in `dealrec+normalise=rank`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from cluster.errors import UserError
from pipeline.engine.config import SELECT_PRESETS, SelectConfig
from scoring.exceptions import SettingError
from scoring.selection import FULL, METHODS, is_own, selector
from scoring.selectors.selector_settings import BuiltInSettings
from scoring.setting_faults import setting_faults

#: A variant names folders, so it has only these characters.
_FORM = re.compile(r"[\w.:]+(\+\w+=[\w.-]+)*")
#: Keys that every arm is given anyway, or that are written as single keys.
_OF_THE_ARM = ("method", "size", "seed", "reference_users", "settings")
_KEYS = tuple(
    name for name in (field.alias or key for key, field in SelectConfig.model_fields.items()) if name not in _OF_THE_ARM
)


@dataclass(frozen=True)
class Variant:
    """A selector and what it has instead of the run's settings.

    Attributes
    ----------
    text : as the command line names it.
    method : as `select.method`.
    keys : keys of `select`, `method` among them.
    settings : of a selector of the user's own, as `select.settings`.
    """

    text: str
    method: str
    keys: Mapping[str, Any]
    settings: Mapping[str, Any]

    def section(self, run: SelectConfig, changes: Mapping[str, Any]) -> SelectConfig:
        """Return the run's section with this selector, and with `changes` to further keys.

        `select.settings` of the run are those of its own selector, so another one has none of them. The run's preset
        is that of its own method.
        """
        changed = {**self.keys, **self.settings}
        base = {key: value for key, value in run.model_dump(by_alias=True).items() if key not in self.settings}
        own = base.pop("settings", {}) if run.method == self.method else {}
        settings = {key: value for key, value in own.items() if key not in changed} | dict(self.settings)
        values = {**base, "preset": None, **self.keys, "settings": settings, **changes}
        return _validated(f"--selectors {self.text}", values)


def parse_variant(text: str) -> Variant:
    """Parse a text such as `dealrec+normalise=rank+strata=20`.

    Raises `UserError` for a method or a setting that does not exist, and for a value that it cannot have.
    """
    place = f"--selectors {text}"
    method, *assignments = text.split("+")
    own = is_own(method)
    if not own and method not in METHODS:
        remedy = f"The selectors are {', '.join(sorted(METHODS))}, and module:Class of your own."
        raise UserError(f"{place}: no selector {method}.", remedy)
    if method == FULL and assignments:
        raise UserError(f"{place}: {FULL} takes every sample, whatever else is set.", f"Name it as {FULL}.")
    if not _FORM.fullmatch(text):
        raise UserError(f"{place} cannot be read.", "Append +KEY=VALUE for every key of select that differs.")
    given = {key: _value(place, key, value) for key, _, value in (part.partition("=") for part in assignments)}
    # Built-in selectors share keys, so that one text may vary several; a class of the user's own has its own alone.
    inner = _settings_of(place, method) if own else ()
    known = (*inner, *(key for key in _KEYS if not own or key not in BuiltInSettings.names()))
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UserError(f"{place}: no setting {unknown[0]}.", f"The settings are {', '.join(known)}.")
    settings = {key: value for key, value in given.items() if key in inner}
    keys = {key: value for key, value in given.items() if key not in settings}
    keys = {**SELECT_PRESETS.get(str(keys.get("preset")), {}), "method": method, **keys}
    _validated(place, {**keys, "settings": settings})
    return Variant(text, method, keys, settings)


def _validated(place: str, values: Mapping[str, Any]) -> SelectConfig:
    try:
        return SelectConfig.model_validate(values)
    except ValidationError as error:
        fault = setting_faults(error, SelectConfig)[0]
        raise UserError(f"{place}: {fault}.", "Correct the value, or the class.") from None


def _settings_of(place: str, method: str) -> tuple[str, ...]:
    """Return the names of the settings that a user's own class has."""
    try:
        return selector(method).Settings.names()
    except SettingError as error:
        raise UserError(f"{place}: {error}.", "Correct the class, or its name.") from error


def _value(place: str, key: str, text: str) -> Any:
    """Read a number or a word as YAML does."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        value = None
    if not isinstance(value, str | int | float):
        raise UserError(f"{place}: {key}: {text} is neither a number nor a word.", "Correct the value.")
    return value
