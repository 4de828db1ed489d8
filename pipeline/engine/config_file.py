"""From a YAML file and `--set key=value` to a validated configuration, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cluster.errors import UserError
from cluster.masking import masked, masked_values
from cluster.storage import Storage
from pipeline.engine.config import Config
from scoring.setting_faults import setting_faults


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply overrides.

    Parameters
    ----------
    path : a YAML file.
    overrides : "section.key=value" strings; the value is read as YAML, so numbers and lists work.

    Raises `UserError` that names the file and the key.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"The config {path} does not exist.", "Check the path; the README shows a first one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The config {path} cannot be read: {error}.", "Give a YAML text file.") from error
    return parse_text(text, path, overrides)


def load_run_config(run: Storage, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration that a run directory keeps, with overrides as `load_config` takes them.

    Raises `UserError` for a folder that is not a run.
    """
    try:
        text = run.read_text("config.yaml")
    except FileNotFoundError:
        raise UserError(
            f"{run.uri} holds no config.yaml, so it is not the directory of a run.",
            "Name the run directory that `dealrec run` said it wrote, or the config.",
        ) from None
    return parse_text(text, f"{run.uri}/config.yaml", overrides)


def parse_text(text: str, path: str, overrides: Sequence[str] = ()) -> Config:
    """Load a config from a text, YAML or JSON, that messages call `path`."""
    try:
        values = _read(text)
    # PyYAML raises ValueError for an impossible date.
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"The config {path} is not YAML: {error}.", "Correct the line named above.") from error
    if not isinstance(values, dict):
        raise UserError(f"The config {path} holds no sections.", "Start with `data:` and `interactions:` below it.")
    for override in overrides:
        values = _with_override(values, override)
    return parse_config(values, path)


def _read(text: str) -> object:
    """Read JSON before YAML: as YAML, 1e-05 and characters in two escapes would be read as something else."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def parse_config(values: Mapping[str, object], source: str) -> Config:
    """Validate a nested mapping. Raises `UserError` with every fault, each by its key."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        faults = masked("; ".join(setting_faults(error, Config)))
        raise UserError(f"{source}: {faults}.", "Correct the keys named and run again.") from None


def dump_config(config: Config) -> str:
    """Return the whole configuration as YAML, every default visible."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def shown_config(config: Config) -> str:
    """Dump a config without credentials, for pages that people pass on."""
    values = masked_values(config.model_dump(mode="json", by_alias=True))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration, for editors."""
    return Config.model_json_schema(by_alias=True)


def _with_override(values: Mapping[str, object], override: str) -> dict[str, object]:
    """Return a copy of the nested mapping with one key replaced."""
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise UserError(
            f"--set {override} is not of the form section.key=value.", "For example: --set select.size=0.02."
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--set {override}: the value is not YAML ({error}).", "Quote it.") from error
    result = dict(values)
    level = result
    for part in parts[:-1]:
        there = level.get(part)
        inner: dict[str, object] = dict(there) if isinstance(there, dict) else {}
        level[part] = inner
        level = inner
    level[parts[-1]] = value
    return result
