"""The live files of a Delta table, as its log lists them."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.digest import digest
from cluster.errors import UserError
from cluster.storage import open_filesystem
from pipeline.ingest.files.datafile import DataFile, Place, without_views

_ROWS_PER_BATCH = 1 << 20
_PHYSICAL = "delta.columnMapping.physicalName"
_VECTOR = re.compile(r"deletion_vector_.*\.bin")
_NONE = np.empty(0, dtype=np.int64)
#: The table features that this reader supports, as the protocol names them.
_KNOWN_FEATURES = frozenset(
    {"columnMapping", "deletionVectors", "timestampNtz", "typeWidening", "typeWidening-preview", "v2Checkpoint",
     "vacuumProtocolCheck"}
)  # fmt: skip


@dataclass(frozen=True)
class DeltaRows:
    """The live rows of one data file.

    Attributes
    ----------
    stored : column of the table -> its name in the file.
    deleted : the rows that a deletion vector deletes, int64, ascending from 0.
    """

    filesystem: pafs.FileSystem
    path: str
    source: str
    schema: pa.Schema
    stored: Mapping[str, str]
    deleted: npt.NDArray[np.int64]

    @property
    def mark(self) -> str:
        return digest(self.deleted.tobytes()) if len(self.deleted) else ""

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the columns of the live rows; a column added after the file was written is null."""
        with pq.ParquetFile(self.filesystem.open_input_file(self.path)) as parquet:
            there = set(parquet.schema_arrow.names)
            names = {column: self.stored[column] for column in columns if self.stored[column] in there}
            begin = 0
            for batch in parquet.iter_batches(_ROWS_PER_BATCH, columns=list(names.values())):
                rows = batch.num_rows
                columns_of_batch = {
                    column: batch[names[column]] if column in names else pa.nulls(rows, self.schema.field(column).type)
                    for column in columns
                }
                first, last = np.searchsorted(self.deleted, [begin, begin + rows])
                keep = np.ones(rows, dtype=bool)
                keep[self.deleted[first:last] - begin] = False
                table = without_views(pa.table(columns_of_batch))
                yield table if keep.all() else table.filter(pa.array(keep))
                begin += rows


def delta_files(place: Place, root: str, below: Sequence[pafs.FileInfo]) -> list[DataFile]:
    """Return the files of the newest version of a Delta table, with the values of its partition columns.

    If the table is remote, its log is copied first, so that one code path serves every store.
    Raises `UserError` if the log cannot be read or needs a feature that this reader does not support.
    """
    name = f"{place.scheme}{root}"
    try:
        with _log_folder(place.filesystem, root, below) as folder:
            table = DeltaTable(folder)
            _check_protocol(table, place.key, name)
            actions = pa.table(table.get_add_actions(flatten=False))
            struck = _struck_rows(table, actions["path"].to_pylist())
            schema = pa.schema(table.schema().to_arrow())
            fields = {entry["name"]: entry["metadata"] for entry in json.loads(table.schema().to_json())["fields"]}
            partitioned = table.metadata().partition_columns
    except (DeltaError, OSError, ValueError) as error:
        raise UserError(
            f"{place.key}: the log of the Delta table {name} cannot be read: {str(error).splitlines()[0].rstrip('.')}.",
            "Repair the table, or write it as plain Parquet into another folder.",
        ) from error
    stored = {column: fields[column].get(_PHYSICAL, column) for column in schema.names}
    schema = pa.schema([column for column in schema if column.name not in partitioned])
    source = f"version {table.version()} of the Delta table {name}"
    files = []
    for action in actions.to_pylist():
        filesystem, path, scheme = _located(place, root, action["path"])
        rows = DeltaRows(filesystem, path, source, schema, stored, struck.get(action["path"], _NONE))
        given = {column: _as_text((action.get("partition") or {}).get(column)) for column in partitioned}
        size = int(action["size_bytes"])
        files.append(DataFile(filesystem, path, f"{scheme}{path}", "parquet", None, size, given, rows=rows))
    return sorted(files, key=lambda file: file.path)


def _check_protocol(table: DeltaTable, key: str, name: str) -> None:
    unknown = sorted(set(table.protocol().reader_features or ()) - _KNOWN_FEATURES)
    if table.metadata().configuration.get("delta.columnMapping.mode") == "id":
        unknown.append("columnMapping by id")
    if unknown:
        raise UserError(
            f"{key}: the Delta table {name} uses features that this reader does not support: {', '.join(unknown)}.",
            f'Write it as plain Parquet into another folder: spark.read.format("delta").load("{name}").write.parquet('
            '"...").',
        )


@contextlib.contextmanager
def _log_folder(filesystem: pafs.FileSystem, root: str, below: Sequence[pafs.FileInfo]) -> Iterator[str]:
    """Provide a local folder with the table's log: the table's own, or a copy without its data."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="dealrec-") as folder:
        log_infos = filesystem.get_file_info(pafs.FileSelector(f"{root}/_delta_log", recursive=True))
        # Deletion vectors lie beside the data.
        vectors = [info for info in below if _VECTOR.fullmatch(info.base_name)] or [
            info
            for info in filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
            if _VECTOR.fullmatch(info.base_name)
        ]
        for info in (*log_infos, *vectors):
            if info.type == pafs.FileType.File:
                target = Path(folder) / info.path[len(root) :].lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with filesystem.open_input_stream(info.path, compression=None) as stream:
                    target.write_bytes(stream.read())
        yield folder


def _struck_rows(table: DeltaTable, paths: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows that deletion vectors delete, keyed by the file's path as the log writes it."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    struck = {}
    for batch in table.deletion_vectors():
        for row in pa.record_batch(batch).to_pylist():
            uri = row["filepath"]
            matching = [path for path in by_name.get(uri.rsplit("/", 1)[-1], ()) if uri.endswith(path)]
            if len(matching) != 1:
                raise ValueError(f"a deletion vector belongs to {uri}, which is not a file of the table")
            struck[matching[0]] = np.flatnonzero(~np.array(row["selection_vector"], dtype=bool)).astype(np.int64)
    return struck


def _located(place: Place, root: str, path: str) -> tuple[pafs.FileSystem, str, str]:
    """Return filesystem, path in it and scheme of a file in the log.

    The log gives its path relative to the table or, in a clone, as a URI.
    """
    scheme = urlparse(path).scheme
    if not scheme:
        return place.filesystem, f"{root}/{unquote(path)}", place.scheme
    filesystem, inner = open_filesystem(unquote(path))
    return filesystem, inner, "" if scheme == "file" else f"{scheme}://"


def _as_text(value: object) -> str | None:
    """Return the value of a partition column as text, to be read like a cell of a text file."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat(sep=" ") if isinstance(value, datetime.datetime) else str(value)
