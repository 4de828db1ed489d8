"""One input file, and what is known about it before it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.fs as pafs

Format = Literal["parquet", "csv", "tsv", "jsonl", "recbole"]


class LiveRows(Protocol):
    """The rows of a data file that belong to its table, with the table's column names.

    Attributes
    ----------
    schema : the columns that `read` can give, without those in `DataFile.given`.
    source : the table and which of its states is read, for the log.
    mark : tells the same file with other rows deleted apart; "" where none is.
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


@dataclass(frozen=True)
class DataFile:
    """One input file.

    Attributes
    ----------
    filesystem, path : how Arrow opens it.
    name : the path or URI as the user would write it, for messages.
    compression : gzip, xz, bz2, zstd, or None.
    given : columns that hold one value in the whole file, which its path or its table's log says and it does not.
    unasked : those of `given` that count only when the configuration names them.
    part : the part of a split that the file's name, or the folder's below what the user named, stands for, or None.
    rows : how a file of a table is read; None where the file counts as it is.
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

    def identity(self) -> dict[str, Any]:
        """Return what decides the result besides the file's bytes; empty for most files."""
        facts = {"given": dict(self.given), "part": self.part, "rows": self.rows.mark if self.rows else None}
        return {key: value for key, value in facts.items() if value}


@dataclass(frozen=True)
class Place:
    """Where to look for files, and what the user called it.

    Attributes
    ----------
    root : the path in the filesystem, which may be a pattern.
    scheme : what stands before a path in messages, "s3://" for instance.
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
