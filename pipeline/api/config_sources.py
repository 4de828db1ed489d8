"""What a call may be given in place of a configuration file, and the configuration that it stands for."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.errors import UserError
from cluster.storage import Storage, is_remote
from pipeline.api.given_tables import TableShelf, is_table, to_arrow
from pipeline.api.run_result import Run
from pipeline.driver.run_directory import default_run_dir, open_run
from pipeline.engine.config import Config
from pipeline.engine.config_file import load_config, load_run_config, parse_config, parse_text

#: The path of a YAML file or of a run directory; a configuration; a run; or a mapping, either of the section `data`,
#: whose log and catalogue may be tables in memory, or of whole sections.
Source = str | os.PathLike[str] | Config | Run | Mapping[str, Any]
#: The keys of `data` that may be tables in memory.
_TABLES = ("interactions", "items")


@dataclass(frozen=True)
class Task:
    """What a call works on: the configuration, and the run directory."""

    config: Config
    run: Storage

    @property
    def result(self) -> Run:
        """The run as it stands."""
        return Run(self.config, self.run.uri)


@dataclass(frozen=True)
class SourceRead:
    """A source that was read: nothing is written yet.

    Attributes
    ----------
    config : the configuration, with a word in place of each table in memory.
    tables : these tables, by their keys in the section `data`.
    run_dir : the run directory as it was given, or as it belongs to the source; None if neither names one.
    """

    config: Config
    tables: Mapping[str, Any]
    run_dir: str | None

    def with_tables_on(self, shelf: TableShelf) -> Config:
        """Keep the tables on a shelf, and return the configuration that names their files.

        Raises `UserError` for a table that cannot be stored.
        """
        kept = {key: shelf.keep(to_arrow(table, f"data.{key}"), key) for key, table in self.tables.items()}
        if not kept:
            return self.config
        return self.config.model_copy(update={"data": self.config.data.model_copy(update=kept)})


def read_source(
    source: Source,
    run_dir: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    sections: Mapping[str, object] | None = None,
) -> SourceRead:
    """Read the configuration of a call.

    Parameters
    ----------
    source : see `Source`.
    run_dir : a folder or URI; None takes that of a run, or `runs/NAME` for a configuration file NAME.yaml.
    overrides : "section.key=value" texts, as the option `--set` takes them, applied to the source.
    sections : keys by section, which replace those of the source.

    Raises `UserError` that names every wrong key.
    """
    values, name, own_dir = _values(source, overrides)
    values, tables = _without_tables(_with_sections(values, sections or {}))
    return SourceRead(parse_config(values, name), tables, own_dir if run_dir is None else os.fspath(run_dir))


@contextlib.contextmanager
def opened_task(
    source: Source,
    run_dir: str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
    sections: Mapping[str, object] | None = None,
    writes: bool = True,
) -> Iterator[Task]:
    """Read the configuration of a call as `read_source` does, open its run directory, and keep the tables there.

    Tables that no configuration in the run directory names at the end of the block are removed.

    Parameters
    ----------
    writes : False makes the directory only if there are tables to keep: the call does nothing but read it.

    Raises `UserError` as `read_source` does, for a run directory that is missing or cannot be written, and for a table
    that cannot be stored.
    """
    read = read_source(source, run_dir, overrides, sections)
    place = named_place(read)
    run = open_run(place) if writes or read.tables else Storage.at(place)
    shelf = TableShelf(run)
    try:
        yield Task(read.with_tables_on(shelf), run)
    finally:
        shelf.clear_unused()


def named_place(read: SourceRead) -> str:
    """Return the run directory of a source that was read. Raises `UserError` if there is none."""
    if read.run_dir is None:
        raise UserError("run_dir is missing.", "Name the folder or URI that is to keep the results, such as runs/shop.")
    return read.run_dir


def _values(source: Source, overrides: Sequence[str]) -> tuple[dict[str, Any], str, str | None]:
    """Return the sections of a source, what messages call it, and the run directory that belongs to it."""
    if isinstance(source, Run):
        return _overridden(_dumped(source.config), "config", overrides), "config", source.run_dir
    if isinstance(source, Config):
        return _overridden(_dumped(source), "config", overrides), "config", None
    if isinstance(source, Mapping):
        whole = source if "data" in source else {"data": source}
        values = {str(key): _plain_section(value) for key, value in whole.items()}
        return _overridden(values, "config", overrides), "config", None
    if is_table(source):
        return _overridden({"data": {"interactions": source}}, "config", overrides), "config", None
    if not isinstance(source, (str, os.PathLike)):
        raise UserError(
            f"A config cannot be read from {type(source).__name__}.",
            'Give the path of a YAML file, or {"interactions": log, "items": titles} with paths or tables.',
        )
    path = os.fspath(source)
    if is_remote(path) or Path(path).is_dir():
        return _dumped(load_run_config(Storage.at(path), overrides)), f"{path}/config.yaml", path
    return _dumped(load_config(path, overrides)), path, default_run_dir(path)


def _overridden(values: dict[str, Any], name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Apply overrides to the values, as to the text of a configuration."""
    if not overrides:
        return values
    values, tables = _without_tables(values)
    changed = _dumped(parse_text(json.dumps(values), name, overrides))
    return changed | {"data": {**changed["data"], **tables}} if tables else changed


def _dumped(config: Config) -> dict[str, Any]:
    """Return the keys that were set, so that those left out go on following others."""
    return config.model_dump(by_alias=True, exclude_unset=True)


def _plain_section(section: Any) -> Any:
    """Return a section with paths as text, classes by their names, and numbers of numpy as Python's."""
    if isinstance(section, Mapping):
        return {str(key): _plain_value(value) for key, value in section.items()}
    return section


def _plain_value(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    return class_name(value) if isinstance(value, type) else value


def class_name(kind: type) -> str:
    """Return `module:Class` of a class of the user's, by which workers import it.

    Raises `UserError` for one that was defined in a notebook, in the main program or inside a function.
    """
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise UserError(
            f"{kind.__qualname__} is defined where no worker can import it.",
            "Put the class into a module beside this program, and import it from there.",
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _with_sections(values: dict[str, Any], sections: Mapping[str, object]) -> dict[str, Any]:
    """Replace the keys of some sections."""
    merged = dict(values)
    for name, section in sections.items():
        given, there = _plain_section(section), merged.get(name)
        merged[name] = {**there, **given} if isinstance(there, Mapping) and isinstance(given, Mapping) else given
    return merged


def _without_tables(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values with a word in place of each table in memory, and those tables."""
    data = values.get("data")
    if not isinstance(data, Mapping):
        return values, {}
    tables = {
        key: data[key] for key in _TABLES if key in data and data[key] is not None and not isinstance(data[key], str)
    }
    return values | {"data": {**data, **dict.fromkeys(tables, "a table in memory")}}, tables
