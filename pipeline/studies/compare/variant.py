"""Selectors as a comparison names them: a method and the settings that differ, as in `dealrec+normalise=rank`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from cluster.errors import UserError
from cluster.setting_faults import setting_faults
from pipeline.engine.config import SELECT_PRESETS, SelectConfig
from scoring.selection import FULL, METHODS

#: A variant names folders, so it holds nothing but these characters.
_FORM = re.compile(r"\w+(\+\w+=[\w.-]+)*")
#: What every arm is given anyway.
_OF_THE_ARM = ("method", "size", "seed", "reference_users")
_SETTINGS = tuple(
    name for name in (field.alias or key for key, field in SelectConfig.model_fields.items()) if name not in _OF_THE_ARM
)


@dataclass(frozen=True)
class Variant:
    """A method, and keys of `select`, `method` among them, with the values they have instead of the run's."""

    method: str
    settings: Mapping[str, Any]


def parse_variant(text: str) -> Variant:
    """The variant that a text such as `dealrec+normalise=rank+strata=20` names.

    Raises `UserError` for a method or a setting that does not exist, and for a value that it cannot have.
    """
    place = f"--selectors {text}"
    method, *assignments = text.split("+")
    if method not in METHODS:
        raise UserError(f"{place}: no selector {method}.", f"The selectors are {', '.join(sorted(METHODS))}.")
    if method == FULL and assignments:
        raise UserError(f"{place}: {FULL} takes every sample, whatever else is set.", f"Name it as {FULL}.")
    if not _FORM.fullmatch(text):
        raise UserError(f"{place} cannot be read.", "Append +KEY=VALUE for every key of select that differs.")
    settings = {key: _value(place, key, value) for key, _, value in (part.partition("=") for part in assignments)}
    unknown = [key for key in settings if key not in _SETTINGS]
    if unknown:
        raise UserError(f"{place}: no setting {unknown[0]}.", f"The settings are {', '.join(_SETTINGS)}.")
    settings = {**SELECT_PRESETS.get(str(settings.get("preset")), {}), "method": method, **settings}
    try:
        SelectConfig.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"{place}: {setting_faults(error, SelectConfig)[0]}.", "Correct the value.") from None
    return Variant(method, settings)


def _value(place: str, key: str, text: str) -> Any:
    """A number or a word, as YAML reads it."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        value = None
    if not isinstance(value, str | int | float):
        raise UserError(f"{place}: {key}: {text} is neither a number nor a word.", "Correct the value.")
    return value
