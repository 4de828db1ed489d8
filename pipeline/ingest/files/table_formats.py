"""Folders whose files alone are not the table: a log beside them says which files and rows count."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import pyarrow.fs as pafs

from cluster.errors import UserError
from pipeline.ingest.files.datafile import DataFile, Place
from pipeline.ingest.files.partitions import is_partition

#: A folder with this name makes its parent a table of this kind.
_FOLDERS = {
    "_delta_log": "Delta",
    ".hoodie": "Hudi",
    "_spark_metadata": "Spark stream",
    "_temporary": "unfinished job",
}
#: So does a file whose name matches the pattern, in a folder with this name.
_FILES = {
    "metadata": (re.compile(r".*\.metadata\.json"), "Iceberg"),
    "snapshot": (re.compile(r"snapshot-\d+|LATEST|EARLIEST"), "Paimon"),
    "_versions": (re.compile(r".*\.manifest"), "Lance"),
}
_HIVE_ACID = re.compile(r"(base|(delete_)?delta_\d{7,})_\d{7,}.*")
_DUCKLAKE = re.compile(r"ducklake-[0-9a-f]{8}-[0-9a-f-]{27}(-delete)?\.parquet")

#: Kinds that are read through their log, and the package that reads it.
_READERS = {"Delta": "deltalake", "Iceberg": "pyiceberg"}

#: The name of a kind, why its files cannot be read as they are, and how to write files that can.
_REFUSALS = {
    "Hudi": (
        "an Apache Hudi table",
        "its files hold old versions of rows",
        'spark.read.format("hudi").load("{root}").write.parquet("...")',
    ),
    "Spark stream": (
        "the output of a Spark stream",
        "its _spark_metadata says which files count",
        'spark.read.load("{root}").write.parquet("...")',
    ),
    "Paimon": (
        "an Apache Paimon table",
        "its files hold old versions of rows",
        'spark.read.format("paimon").load("{root}").write.parquet("...")',
    ),
    "Lance": (
        "a Lance dataset",
        "its files hold deleted rows and old versions",
        'pyarrow.parquet.write_table(lance.dataset("{root}").to_table(), "log.parquet")',
    ),
    "Hive ACID": (
        "a transactional Hive table",
        "its base and delta folders hold old versions of rows",
        "in Hive, INSERT OVERWRITE DIRECTORY '...' STORED AS PARQUET SELECT * FROM the table",
    ),
    "DuckLake": (
        "a DuckLake table",
        "its catalogue database says which rows count",
        "in DuckDB, COPY (FROM the table) TO 'log.parquet'",
    ),
}


@dataclass(frozen=True)
class FormatTable:
    """A table, by its kind and the folder that holds its log."""

    kind: str
    root: str


def table_files(
    place: Place, found: Sequence[pafs.FileInfo], below: Sequence[pafs.FileInfo], data: Iterable[pafs.FileInfo]
) -> list[DataFile] | None:
    """Return the live files of the table that a location is, contains, or lies in; None if there is no table.

    Without a table, all files count as they are.

    Parameters
    ----------
    found : what the location names.
    below : everything in its folders.
    data : the files among them that would be read if there were no table.

    Raises `UserError` for a kind that is not supported, for several tables, and for a table beside other data.
    """
    tables = set(_marked(info.path for info in below)) | _tables_around(place.filesystem, found)
    # A Delta table may keep Iceberg metadata beside its own log.
    tables -= {FormatTable("Iceberg", table.root) for table in tables if table.kind == "Delta"}
    if not tables:
        return None
    for table in sorted(tables, key=lambda table: table.root):
        if table.kind not in _READERS:
            raise _refusal(place, table)
    if len(tables) > 1:
        names = ", ".join(sorted(f"{place.scheme}{table.root}" for table in tables)[:3])
        raise UserError(f"{place.key}: {place.location} holds {len(tables)} tables ({names}).", "Name one of them.")
    (table,) = tables
    stray = next((info.path for info in data if not _inside(table.root, info.path)), None)
    if stray is not None:
        raise UserError(
            f"{place.key}: {place.location} holds the table {place.scheme}{table.root} and other data "
            f"({place.scheme}{stray}).",
            "Name one of the two.",
        )
    return _live_files(place, table, found, below)


def _live_files(
    place: Place, table: FormatTable, found: Sequence[pafs.FileInfo], below: Sequence[pafs.FileInfo]
) -> list[DataFile]:
    package = _READERS[table.kind]
    name = f"{place.scheme}{table.root}"
    if find_spec(package) is None:
        raise UserError(
            f"{place.key}: {name} is a table of {table.kind}. Reading it needs the package {package}, which is not "
            "installed.",
            f"Install it in this environment, on every node: pip install {package}. Or write the table as plain "
            "Parquet into another folder.",
        )
    if table.kind == "Delta":
        from pipeline.ingest.files.delta import delta_files

        files = delta_files(place, table.root, below)
    else:
        from pipeline.ingest.files.iceberg import iceberg_files

        files = iceberg_files(place, table.root, found)
    named = [info.path for info in found]
    if not any(path == table.root or _inside(path, table.root) or path.endswith(".metadata.json") for path in named):
        files = [file for file in files if any(file.path == path or _inside(path, file.path) for path in named)]
    if not files:
        raise UserError(
            f"{place.key}: {place.location} contains no live file of the {table.kind} table in {name}.",
            "Name the table's own folder, and check that it has rows.",
        )
    return files


def _inside(folder: str, path: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")


def _refusal(place: Place, table: FormatTable) -> UserError:
    name = f"{place.scheme}{table.root}"
    if table.kind == "unfinished job":
        return UserError(
            f"{place.key}: {name} holds the folder _temporary, so the job that writes there is running or has failed, "
            "and files may be missing.",
            "Wait for the job, or run it again. If its output is complete, remove _temporary.",
        )
    what, why, remedy = _REFUSALS[table.kind]
    return UserError(
        f"{place.key}: {name} is {what}: {why}.",
        f"Write the current rows as plain Parquet into another folder ({remedy.format(root=name)}), and name that.",
    )


def _marked(paths: Iterable[str]) -> Iterator[FormatTable]:
    """Yield the tables that paths reveal by their parts."""
    for path in paths:
        table = _mark(path.split("/"))
        if table is not None:
            yield table


def _mark(parts: Sequence[str]) -> FormatTable | None:
    for depth, part in enumerate(parts):
        folder = depth + 1 < len(parts)
        kind = "Hive ACID" if folder and _HIVE_ACID.fullmatch(part) else _FOLDERS.get(part)
        if kind is not None:
            return FormatTable(kind, "/".join(parts[:depth]))
    pattern, kind = _FILES.get(parts[-2] if len(parts) > 1 else "", (_DUCKLAKE, "DuckLake"))
    return (
        FormatTable(kind, "/".join(parts[: -1 if kind == "DuckLake" else -2])) if pattern.fullmatch(parts[-1]) else None
    )


def _tables_around(filesystem: pafs.FileSystem, found: Sequence[pafs.FileInfo]) -> set[FormatTable]:
    """Return the innermost of the tables that contain each of these files."""
    own = set(_marked(info.path for info in found))
    nearest, further = _folders_above(found)
    around = {table for folder in nearest for table in _marks_in(filesystem, folder, tuple(_FOLDERS))}
    steady = tuple(name for name, kind in _FOLDERS.items() if kind != "unfinished job")
    around |= {table for folder in further for table in _marks_in(filesystem, folder, steady)}
    innermost = max((table.root for table in around), key=len, default="")
    return own | {table for table in around if table.root == innermost}


def _folders_above(found: Sequence[pafs.FileInfo]) -> tuple[set[str], set[str]]:
    """Return the folders that could hold the log of a table around these files: the nearest, and those above."""
    nearest, further = set(), set()
    for info in found:
        parts = info.path.split("/")
        # A partition folder never contains a table.
        deepest = len(parts) if info.type == pafs.FileType.Directory else len(parts) - 1
        ends = [end for end in range(deepest, 0, -1) if parts[end - 1] and not is_partition(parts[end - 1])]
        nearest |= {"/".join(parts[:end]) for end in ends[:1]}
        further |= {"/".join(parts[:end]) for end in ends[1:]}
    return nearest, further - nearest


def _marks_in(filesystem: pafs.FileSystem, folder: str, folders: Sequence[str]) -> list[FormatTable]:
    """Return the tables whose log lies in a folder; none if the folder may not be read."""
    with contextlib.suppress(OSError):
        infos = filesystem.get_file_info([f"{folder}/{name}" for name in (*folders, *_FILES)])
        there = [info for info in infos if info.type == pafs.FileType.Directory]
        listed = [
            inner
            for info in there
            if info.base_name in _FILES
            for inner in filesystem.get_file_info(pafs.FileSelector(info.path))
        ]
        return list(_marked(info.path for info in (*there, *listed)))
    return []
