"""One input file, and what is known about it before it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict

import pyarrow as pa
import pyarrow.fs as pafs

Format = Literal["parquet", "csv", "tsv", "jsonl", "recbole"]


class LiveRows(Protocol):
    """The rows of a data file that belong to its table, with the table's column names.

    Attributes
    ----------
    schema : the columns that `read` can return, without those in `DataFile.given`.
    source : the table and the version of it that is read, for the log.
    mark : a digest of the deleted rows, so that the same file with other deletes differs; "" if none are deleted.
    """

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def source(self) -> str: ...

    @property
    def mark(self) -> str: ...

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the columns of the live rows, block by block."""
        ...


class FileIdentity(TypedDict, total=False):
    """What decides the result besides a file's bytes: columns from its path, its part of a split, its deleted rows."""

    given: dict[str, str | None]
    part: str
    rows: str


@dataclass(frozen=True)
class DataFile:
    """One input file.

    Attributes
    ----------
    filesystem, path : where Arrow finds it.
    name : the path or URI as the user would write it, for messages.
    compression : gzip, xz, bz2, zstd, or None.
    given : columns with one value for the whole file, taken from its path or its table's log.
    unasked : columns of `given` that are used only if the configuration names them.
    part : the part of a split that the name of the file, or of a folder below what the user named, stands for.
    rows : the reader of a table's file; None if the file counts as it is.
    """

    filesystem: pafs.FileSystem
    path: str
    name: str
    format: Format
    compression: str | None
    size: int
    given: Mapping[str, str | None] = field(default_factory=dict)
    unasked: frozenset[str] = frozenset()
    part: str | None = None
    rows: LiveRows | None = None

    def identity(self) -> FileIdentity:
        """Return what decides the result besides the file's bytes; empty for most files."""
        identity = FileIdentity()
        if self.given:
            identity["given"] = dict(self.given)
        if self.part:
            identity["part"] = self.part
        if self.rows is not None and self.rows.mark:
            identity["rows"] = self.rows.mark
        return identity


@dataclass(frozen=True)
class Place:
    """Where to look for files, and what the user called it.

    Attributes
    ----------
    root : the path in the filesystem; it may be a pattern.
    scheme : the prefix of a path in messages, such as "s3://".
    key : the configuration key it came from.
    location : what the user wrote there.
    """

    filesystem: pafs.FileSystem
    root: str
    scheme: str
    key: str
    location: str


def without_views(table: pa.Table) -> pa.Table:
    """Return the table with plain strings.

    Some writers choose string views, and Arrow can neither filter nor take rows of those.
    """
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    fields = [column.with_type(plain.get(column.type, column.type)) for column in table.schema]
    return table.cast(pa.schema(fields)) if any(column.type in plain for column in table.schema) else table
