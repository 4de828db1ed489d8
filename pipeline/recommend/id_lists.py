"""Lists of ids that a user gives: users to recommend for, and items that may be recommended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.storage import open_filesystem
from pipeline.engine.config import Columns
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.headers import Header, check_same_kinds, read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.reading import plan_tasks, read_piece
from pipeline.ingest.values.column_values import Origin
from pipeline.ingest.values.columns import find_column
from pipeline.ingest.values.id_text import spelled_ids

IdRole = Literal["user", "item"]
_SHOWN = 5
#: Files of these suffixes, and files without one, hold one id a line.
_LINES = ("", ".txt")


def shown_ids(ids: Sequence[str]) -> str:
    """Return the first ids of a list for a message, and how many more there are."""
    more = len(ids) - _SHOWN
    return ", ".join(ids[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def column_of(header: Header, role: str, columns: Columns) -> str | None:
    """Return the column of a role: the one that the config names, if the file has it, else one with a usual name."""
    wanted = columns.get(role)
    named = wanted is not None and any(wanted in (name, name.rsplit(":", 1)[0]) for name in header.kinds)
    return find_column(header, role, wanted if named else None)


def read_ids(location: str, role: IdRole, option: str, columns: Columns) -> list[str]:
    """Read ids, each once, in the order of their first appearance.

    Parameters
    ----------
    location : a text file with one id a line (`.txt`, or no suffix), or a table in any format of the log.
    option : the option that names the file, for messages.
    columns : names of the log's columns, by which the column of a table is found.

    Raises `UserError` for a file that cannot be read, that lacks the column, or that holds no id or anything but ids.
    """
    lines = _lines(location, option)
    if lines is not None:
        return distinct(spelled(pa.array(lines, pa.string()), Origin(location, role, role)), role, option, location)
    headers = read_headers(find_files(location, option))
    column = id_column(headers[0], role, option, columns)
    check_same_kinds(headers, [column])
    found: list[str] = []
    for piece in (piece for pieces in plan_tasks(headers) for piece in pieces):
        for table, first_row in read_piece(piece, [column]):
            origin = Origin(piece.file.name, column, role, first_row)
            found += spelled(table[column].combine_chunks(), origin)
    return distinct(found, role, option, location)


def id_column(header: Header, role: str, option: str, columns: Columns) -> str:
    """Return the column of a table that holds the ids. Raises `UserError` if there is none."""
    column = column_of(header, role, columns)
    if column is None:
        raise UserError(
            f"{option}: {header.file.name} has no {role} column. It has {', '.join(header.kinds) or 'none'}.",
            f"Name its column {role}_id, or give a text file with one id a line.",
        )
    return column


def id_values(values: Iterable[object], role: IdRole, option: str) -> list[str]:
    """Spell ids in memory like those of the log. Raises `UserError` for a value that is no id."""
    try:
        array = pa.array(values if isinstance(values, Sequence) else list(values))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"{option}: the {role} ids are of several types.", "Give all of them as text.") from error
    return distinct(spelled(array, Origin(option, role, role)), role, option, "the list")


def spelled(values: pa.Array, origin: Origin) -> list[str]:
    """Return ids as text, spelled as by ingest. Raises `UserError` for the first value that is missing or no id."""
    ids = spelled_ids(values, origin)
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise origin.fault(f"the {origin.role} id is missing", row, "Fill it in, or remove the row.")
    found: list[str] = ids.to_pylist()
    return found


def distinct(ids: Sequence[str], role: str, option: str, place: str) -> list[str]:
    """Return each id once. Raises `UserError` if there is none."""
    if not ids:
        raise UserError(f"{option}: {place} holds no {role} id.", "Give at least one.")
    return list(dict.fromkeys(ids))


def table_header(table: pa.Table, option: str) -> Header:
    """Return a header for a table in memory, so that its columns are found like those of a file."""
    file = DataFile(pafs.LocalFileSystem(), option, option, "parquet", None, 0)
    return Header(file, dict.fromkeys(table.column_names, "other"))


def _lines(location: str, option: str) -> list[str] | None:
    """Return the lines of a text file that are not blank; None if the location is something else."""
    if PurePosixPath(location.partition("?")[0]).suffix.lower() not in _LINES:
        return None
    filesystem, path = open_filesystem(location)
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return None
    try:
        with filesystem.open_input_file(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{option}: {location} is not text in UTF-8.", "Save it as UTF-8, one id a line.") from error
    except OSError as error:
        raise UserError(f"{option}: {location} cannot be read ({error}).", "Check its permissions.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
