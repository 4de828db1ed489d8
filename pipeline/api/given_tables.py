"""Tables that are given in memory, kept as Parquet in the run directory under a name that their content decides.

The same table is found again and resumes; another one is another file, which a run refuses as it refuses any other
change of its log.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.storage import Storage

#: The folder of the run directory that holds them.
FOLDER = "tables"
_NAMED = re.compile(rf"/{FOLDER}/([0-9a-f]{{16}})/")
#: The files of a run directory that hold a configuration.
_CONFIGS = ("config.yaml", "arms/config-llm.yaml", "arms/config-proxy.yaml")
_REMEDY = "Give a pandas, polars or pyarrow table, or the path of a file or folder."


@runtime_checkable
class ArrowStream(Protocol):
    """A table that hands itself over as Arrow data: of pandas, polars, pyarrow, DuckDB and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


#: A table in memory.
Table = pa.Table | ArrowStream


def is_table(value: object) -> bool:
    """Return whether a value is a table in memory that can be kept."""
    return isinstance(value, (pa.Table, ArrowStream))


def to_arrow(table: Any, key: str) -> pa.Table:
    """Return a table in memory as an Arrow table whose types do not depend on the library that it comes from.

    Parameters
    ----------
    table : a pandas, polars or pyarrow table, or another one with the Arrow C stream interface. An index of pandas
        counts as columns where its levels have names.
    key : the configuration key, for messages.

    Raises `UserError` for what is no table, for two columns of one name, and for a column that Arrow cannot hold.
    """
    if hasattr(table, "collect") and not is_table(table):
        raise UserError(f"{key}: a lazy table has no rows yet.", "Give table.collect().")
    if not is_table(table):
        raise UserError(f"{key}: {type(table).__name__} is not a table.", _REMEDY)
    names = [str(name) for name in getattr(table, "columns", ())] if not isinstance(table, pa.Table) else []
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{key}: the table has the column {twice[0]!r} twice.", "Rename one of them.")
    try:
        found = _converted(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = " ".join(str(part) for part in error.args).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{key}: the table cannot be stored ({reason}).", "Give each column values of one type, such as text."
        ) from error
    fields = [pa.field(field.name, _plain(field.type)) for field in found.schema]
    return found.cast(pa.schema(fields))


def _converted(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    index = getattr(table, "index", None)
    if index is not None and hasattr(index, "names"):
        # An index without a name only numbers the rows; one with a name is data.
        named = any(name is not None for name in index.names)
        return pa.Table.from_pandas(table, preserve_index=named)
    return pa.table(table)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the common type of those that libraries have for one thing: three layouts of text, and categories."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


class TableShelf:
    """The tables in memory that a run directory keeps as Parquet files."""

    def __init__(self, run: Storage) -> None:
        self._run = run
        self._known = self._named()

    def keep(self, table: pa.Table, name: str) -> str:
        """Write a table unless it is there, and return the path or URI of its file.

        Parameters
        ----------
        name : of the file, without its extension.
        """
        table = table.combine_chunks()
        content, file = content_of(table), f"{name}.parquet"
        folder = self._run.child(FOLDER, content)
        if not folder.exists(file):
            with tempfile.TemporaryDirectory(prefix="dealrec-") as local:
                pq.write_table(table, Path(local, file), compression="zstd")
                folder.upload_dir(local)
        self._known.add(content)
        return folder.child(file).uri

    def clear_unused(self) -> None:
        """Remove the tables that no configuration in the run directory names any more.

        A refused call leaves no copy of the log that it was refused for, and a fresh run none of the earlier log.
        """
        for content in self._known - self._named():
            self._run.delete(f"{FOLDER}/{content}")

    def _named(self) -> set[str]:
        texts = [self._run.read_text(name) for name in _CONFIGS if self._run.exists(name)]
        return {content for text in texts for content in _NAMED.findall(text)}


def content_of(table: pa.Table) -> str:
    """Return a hash of column names, types and values; the writing library and its version do not count."""
    sink = _HashingFile()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None))
    return sink.state.hexdigest()


class _HashingFile:
    """A file that keeps the hash of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.state = hashlib.blake2b(digest_size=8)
        self._size = 0

    def write(self, data: bytes) -> int:
        self.state.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: nothing is open."""
