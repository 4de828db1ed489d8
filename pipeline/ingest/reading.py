"""Read the input files as blocks of one normal form, on the driver or on Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.engine.wording import counted
from pipeline.ingest.files.contents import DAMAGE, damaged
from pipeline.ingest.files.datafile import DataFile, LiveRows, without_views
from pipeline.ingest.files.delimited import NumberedBlock, read_csv, read_tabs
from pipeline.ingest.files.headers import Header
from pipeline.ingest.files.json_lines import read_jsonl
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.values import column_values
from pipeline.ingest.values.columns import Roles
from pipeline.ingest.values.id_text import all_present, padded, spelled_ids
from pipeline.ingest.values.missing import without_nulls
from pipeline.ingest.values.times import TimeStyle, as_times, time_style

log = logging.getLogger("dealrec.ingest")

_ROWS_PER_BATCH = 1 << 20
_BYTES_PER_TASK = 64 << 20

#: Why a row of the log is dropped; 0 means that it is kept. A row of nulls with the reason `PADDED` counts a kept row
#: that had blanks around its ids.
KEPT, LOW_RATING, NO_RATING, NO_ID, PADDED = 0, 1, 2, 3, 4

_TYPES = {
    "user": pa.string(),
    "item": pa.string(),
    "timestamp": pa.float64(),
    "position": pa.float64(),
    "split": pa.int8(),
    "title": pa.string(),
}
_CONVERT = {"position": column_values.as_numbers, "split": column_values.as_splits, "title": column_values.as_titles}
_IDS = ("user", "item")
_TEXT_READERS = {"csv": read_csv, "tsv": read_tabs, "recbole": read_tabs, "jsonl": read_jsonl}


@dataclass(frozen=True)
class Piece:
    """A part of a file that one task reads: some row groups of a Parquet file, or all of another file."""

    file: DataFile
    row_groups: tuple[int, ...] = ()
    first_row: int = 1
    bytes: int = 0


@dataclass(frozen=True)
class LogReader:
    """What a task needs to read and normalise pieces of the log.

    Attributes
    ----------
    roles : the column that plays each role.
    min_rating : the lowest rating that is kept; None keeps all.
    missing_id : what to do with rows that lack a user or an item id.
    null_values : texts that stand for a missing value.
    style : how the log writes its times; None takes that of each block's first time.
    rows_per_batch : rows of a Parquet file that are read at once.
    """

    roles: Roles
    min_rating: float | None = None
    missing_id: Literal["error", "drop"] = "error"
    null_values: tuple[str, ...] = ()
    style: TimeStyle | None = None
    rows_per_batch: int = _ROWS_PER_BATCH

    def __call__(self, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
        """Yield normal blocks: user, item, [timestamp], [position], [split], [title], reason.

        Dropped rows stay as rows of nulls with a `reason`, so that they are counted.
        """
        for piece in pieces:
            for table, first_row in read_piece(piece, list(dict.fromkeys(self.roles.values())), self.rows_per_batch):
                yield normalise(table, self, piece.file.name, first_row)


def log_reader(headers: Sequence[Header], roles: Roles, spec: IngestSpec) -> LogReader:
    """Return the reader of a log, after a look at its first row with a time."""
    reader = LogReader(roles, spec.min_rating, spec.missing_id, tuple(spec.null_values or ()))
    if "timestamp" not in roles:
        return reader
    columns = [roles[role] for role in ("timestamp", "rating") if role in roles]
    for piece in (piece for pieces in plan_tasks(headers) for piece in pieces):
        for table, first_row in read_piece(piece, columns):
            table, reason = _rated(table, reader, piece.file.name, first_row)
            if table.num_rows:
                origin = column_values.Origin(
                    piece.file.name, roles["timestamp"], "timestamp", first_row, np.flatnonzero(reason == KEPT)
                )
                return replace(reader, style=time_style(table[roles["timestamp"]], origin))
    return reader


def plan_tasks(
    headers: Sequence[Header], task_bytes: int = _BYTES_PER_TASK, rows_per_batch: int = _ROWS_PER_BATCH
) -> list[list[Piece]]:
    """Group pieces so that a task reads about `task_bytes`: few tasks for a small log, many for a large one.

    A piece of a Parquet file ends with the row group that brings it to `rows_per_batch` rows.
    """
    tasks: list[list[Piece]] = []
    room = 0
    for piece in (piece for header in headers for piece in _pieces(header, task_bytes, rows_per_batch)):
        if not tasks or piece.bytes > room:
            tasks.append([])
            room = task_bytes
        tasks[-1].append(piece)
        room -= piece.bytes
    return tasks


def _pieces(header: Header, task_bytes: int, rows_per_batch: int) -> Iterator[Piece]:
    if not header.row_groups:
        yield Piece(header.file, bytes=header.file.size)
        return
    total = max(1, sum(header.row_groups))
    begin, first_row = 0, 1
    for end in range(1, len(header.row_groups) + 1):
        rows = sum(header.row_groups[begin:end])
        size = header.file.size * rows // total
        if end == len(header.row_groups) or size >= task_bytes or rows >= rows_per_batch:
            yield Piece(header.file, tuple(range(begin, end)), first_row, size)
            begin, first_row = end, first_row + rows


def read_piece(piece: Piece, columns: Sequence[str], rows_per_batch: int = _ROWS_PER_BATCH) -> Iterator[NumberedBlock]:
    """Yield the columns of a piece, block by block. Raises `UserError` if the file cannot be read."""
    given = piece.file.given
    for table, row in _read_own(piece, [column for column in columns if column not in given], rows_per_batch):
        for column in columns:
            if column in given:
                constant = pa.repeat(pa.scalar(given[column], pa.string()), table.num_rows)
                table = table.append_column(column, constant)
        yield table, row


def _read_own(piece: Piece, columns: Sequence[str], rows_per_batch: int) -> Iterator[NumberedBlock]:
    if piece.file.rows is not None:
        return _read_live(piece.file, piece.file.rows, columns)
    if piece.file.format == "parquet":
        return _read_parquet(piece, columns, rows_per_batch)
    return _TEXT_READERS[piece.file.format](piece.file, columns)


def _read_live(file: DataFile, rows: LiveRows, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    row = 1
    try:
        for table in rows.read(columns):
            yield table, row
            row += table.num_rows
    except DAMAGE as error:
        raise damaged(file, error) from error


def _read_parquet(piece: Piece, columns: Sequence[str], rows_per_batch: int) -> Iterator[NumberedBlock]:
    row = piece.first_row
    try:
        with pq.ParquetFile(piece.file.filesystem.open_input_file(piece.file.path)) as parquet:
            for batch in parquet.iter_batches(rows_per_batch, list(piece.row_groups), columns):
                yield without_views(pa.Table.from_batches([batch])), row
                row += batch.num_rows
    except DAMAGE as error:
        raise damaged(piece.file, error) from error


def normalise(table: pa.Table, reader: LogReader, file: str, first_row: int) -> pa.Table:
    """Convert one block to the normal types and names; the rating filter comes before all checks."""
    return numbered_block(table, reader, file, first_row)[0]


def numbered_block(table: pa.Table, reader: LogReader, file: str, first_row: int) -> tuple[pa.Table, np.ndarray]:
    """Normalise a block and number its kept rows.

    Return the block, whose kept rows come first, and the row of the table that each of these came from (int64, from 0).
    """
    table, reason = _rated(table, reader, file, first_row)
    padding = _padded_rows(table, reader)
    rows = np.flatnonzero(reason == KEPT)
    columns: dict[str, pa.Array] = {}
    for roles in (_IDS, [role for role in reader.roles if role not in (*_IDS, "rating")]):
        for role in (role for role in roles if role in reader.roles):
            origin = column_values.Origin(file, reader.roles[role], role, first_row, rows)
            # An id that is also the title may be stored as a float, which is no title.
            is_id = role == "title" and reader.roles[role] == reader.roles["item"]
            values = columns["item"] if is_id else table[reader.roles[role]].combine_chunks()
            columns[role] = _converted(values, origin, reader)
        if roles == _IDS and any(column.null_count for column in columns.values()):
            table, columns = _without_missing_ids(table, columns, reason)
            rows = np.flatnonzero(reason == KEPT)
    kept = pa.table({**columns, "reason": pa.array(np.full(table.num_rows, KEPT, np.uint8))})
    counted = np.append(reason[reason != KEPT], np.full(padding, PADDED, np.uint8))
    if not len(counted):
        return kept, rows
    blank: dict[str, pa.Array] = {role: pa.nulls(len(counted), _TYPES[role]) for role in columns}
    return pa.concat_tables([kept, pa.table({**blank, "reason": pa.array(counted)})]), rows


def _rated(table: pa.Table, reader: LogReader, file: str, first_row: int) -> tuple[pa.Table, np.ndarray]:
    """Apply the rating filter, after replacing the user's `null_values` with null.

    Return the rows that are kept, and the reason of every row.
    """
    for index, name in enumerate(table.column_names if reader.null_values else ()):
        if column_values.is_text(column_values.decoded(table[name]).type):
            text = pc.cast(column_values.decoded(table[name]), pa.string())
            table = table.set_column(index, name, without_nulls(text, reader.null_values))
    reason = _reasons(table, reader, file, first_row)
    return (table.filter(pa.array(reason == KEPT)) if reason.any() else table), reason


def _padded_rows(table: pa.Table, reader: LogReader) -> int:
    marks = [padded(table[reader.roles[role]]) for role in _IDS if role in reader.roles]
    found = [mark for mark in marks if mark is not None]
    return int(pc.sum(found[0] if len(found) == 1 else pc.or_(*found)).as_py() or 0) if found else 0


def _converted(column: pa.Array, origin: column_values.Origin, reader: LogReader) -> pa.Array:
    if origin.role in _IDS:
        ids = without_nulls(spelled_ids(column, origin), reader.null_values)
        return ids if reader.missing_id == "drop" else all_present(ids, origin)
    if origin.role == "timestamp":
        return as_times(column, origin, reader.style)
    return _CONVERT[origin.role](column, origin).cast(_TYPES[origin.role])


def _without_missing_ids(
    table: pa.Table, columns: dict[str, pa.Array], reason: np.ndarray
) -> tuple[pa.Table, dict[str, pa.Array]]:
    """Drop the rows that lack an id, and mark them in `reason`."""
    present = np.ones(table.num_rows, dtype=bool)
    for column in columns.values():
        present &= pc.is_valid(column).to_numpy(zero_copy_only=False)
    reason[np.flatnonzero(reason == KEPT)[~present]] = NO_ID
    mask = pa.array(present)
    return table.filter(mask), {role: column.filter(mask) for role, column in columns.items()}


def _reasons(table: pa.Table, reader: LogReader, file: str, first_row: int) -> np.ndarray:
    """Return uint8 [rows]: kept, rated too low, or without a required rating."""
    if reader.min_rating is None:
        return np.zeros(table.num_rows, np.uint8)
    column = reader.roles["rating"]
    origin = column_values.Origin(file, column, "rating", first_row)
    rating = column_values.as_numbers(table[column].combine_chunks(), origin, required=False)
    low = pc.fill_null(pc.less(rating, reader.min_rating), False).to_numpy(zero_copy_only=False)
    missing = pc.is_null(rating).to_numpy(zero_copy_only=False)
    return np.where(missing, NO_RATING, np.where(low, LOW_RATING, KEPT)).astype(np.uint8)


def read_catalogue(headers: Sequence[Header], roles: Roles, spec: IngestSpec | None = None) -> pa.Table:
    """Return all (item, title) rows of a catalogue, read in this process; a title may be null."""
    reader = LogReader(roles)
    if spec is not None:
        reader = replace(reader, missing_id=spec.missing_id, null_values=tuple(spec.null_values or ()))
    blocks = [pa.table({"item": pa.array([], pa.string()), "title": pa.array([], pa.string())})]
    reasons = np.zeros(PADDED + 1, np.int64)
    for pieces in plan_tasks(headers):
        for block in reader(pieces):
            reasons += np.bincount(block["reason"].to_numpy(), minlength=len(reasons))
            blocks.append(block.filter(pc.equal(block["reason"], KEPT)).select(["item", "title"]))
    if reasons[NO_ID]:
        log.info("Left out %s of the catalogue without an item id", counted(int(reasons[NO_ID]), "row"))
    if reasons[PADDED]:
        log.info("Ignored the blanks around %s of the catalogue", counted(int(reasons[PADDED]), "item id"))
    return pa.concat_tables(blocks)
