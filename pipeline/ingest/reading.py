"""The input files as blocks of one normal form, on the driver or on Ray Data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ingest import values
from pipeline.ingest.columns import Roles
from pipeline.ingest.contents import DAMAGE, damaged
from pipeline.ingest.datafile import DataFile, LiveRows
from pipeline.ingest.headers import Header
from pipeline.ingest.text import NumberedBlock, read_delimited, read_jsonl

_ROWS_PER_BATCH = 1 << 20
_BYTES_PER_TASK = 64 << 20

#: Why a row of the log is not kept; 0 is kept.
KEPT, LOW_RATING, NO_RATING = 0, 1, 2

_TYPES = {
    "user": pa.string(),
    "item": pa.string(),
    "timestamp": pa.float64(),
    "position": pa.float64(),
    "split": pa.int8(),
    "title": pa.string(),
}
_CONVERT = {
    "user": values.as_ids,
    "item": values.as_ids,
    "timestamp": values.as_times,
    "position": values.as_numbers,
    "split": values.as_splits,
    "title": values.as_titles,
}


@dataclass(frozen=True)
class Piece:
    """A part of a file that one task reads: some row groups of a Parquet file, or all of another."""

    file: DataFile
    row_groups: tuple[int, ...] = ()
    first_row: int = 1
    bytes: int = 0


@dataclass(frozen=True)
class LogReader:
    """What a task needs to read and normalise pieces of the log."""

    roles: Roles
    min_rating: float | None = None

    def __call__(self, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
        """Normal blocks: user, item, [timestamp], [position], [split], [title], reason.

        Rows that the rating filter dropped stay as rows of nulls with a `reason`, so that they are counted.
        """
        for piece in pieces:
            for table, first_row in read_piece(piece, list(dict.fromkeys(self.roles.values()))):
                yield normalise(table, self, piece.file.name, first_row)


def plan_tasks(headers: Sequence[Header]) -> list[list[Piece]]:
    """Pieces grouped so that a task reads tens of megabytes: few tasks for a small log, many for a large."""
    tasks: list[list[Piece]] = []
    room = 0
    for piece in (piece for header in headers for piece in _pieces(header)):
        if not tasks or piece.bytes > room:
            tasks.append([])
            room = _BYTES_PER_TASK
        tasks[-1].append(piece)
        room -= piece.bytes
    return tasks


def _pieces(header: Header) -> Iterator[Piece]:
    if not header.row_groups:
        yield Piece(header.file, bytes=header.file.size)
        return
    total = max(1, sum(header.row_groups))
    begin, first_row = 0, 1
    for end in range(1, len(header.row_groups) + 1):
        rows = sum(header.row_groups[begin:end])
        size = header.file.size * rows // total
        if end == len(header.row_groups) or size >= _BYTES_PER_TASK or rows >= _ROWS_PER_BATCH:
            yield Piece(header.file, tuple(range(begin, end)), first_row, size)
            begin, first_row = end, first_row + rows


def read_piece(piece: Piece, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    """The columns of a piece, block by block. Raises `UserError` where the file cannot be read."""
    given = piece.file.given
    for table, row in _read_own(piece, [column for column in columns if column not in given]):
        for column in columns:
            if column in given:
                constant = pa.repeat(pa.scalar(given[column], pa.string()), table.num_rows)
                table = table.append_column(column, constant)
        yield table, row


def _read_own(piece: Piece, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    if piece.file.rows is not None:
        return _read_live(piece.file, piece.file.rows, columns)
    if piece.file.format == "parquet":
        return _read_parquet(piece, columns)
    return (read_jsonl if piece.file.format == "jsonl" else read_delimited)(piece.file, columns)


def _read_live(file: DataFile, rows: LiveRows, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    row = 1
    try:
        for table in rows.read(columns):
            yield table, row
            row += table.num_rows
    except DAMAGE as error:
        raise damaged(file, error) from error


def _read_parquet(piece: Piece, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    row = piece.first_row
    try:
        with pq.ParquetFile(piece.file.filesystem.open_input_file(piece.file.path)) as parquet:
            for batch in parquet.iter_batches(_ROWS_PER_BATCH, list(piece.row_groups), columns):
                yield pa.Table.from_batches([batch]), row
                row += batch.num_rows
    except DAMAGE as error:
        raise damaged(piece.file, error) from error


def normalise(table: pa.Table, reader: LogReader, file: str, first_row: int) -> pa.Table:
    """One block in the types and names that the rest works with; the rating filter precedes all checks."""
    reason = _reasons(table, reader, file, first_row)
    dropped = int(np.count_nonzero(reason))
    if dropped:
        table = table.filter(pa.array(reason == KEPT))
    columns: dict[str, pa.Array] = {}
    for role, column in reader.roles.items():
        if role != "rating":
            origin = values.Origin(file, column, role, first_row)
            columns[role] = _CONVERT[role](table[column].combine_chunks(), origin).cast(_TYPES[role])
    kept = pa.table({**columns, "reason": pa.array(np.full(table.num_rows, KEPT, np.uint8))})
    if not dropped:
        return kept
    blank: dict[str, Any] = {role: pa.nulls(dropped, _TYPES[role]) for role in columns}
    return pa.concat_tables([kept, pa.table({**blank, "reason": pa.array(reason[reason != KEPT])})])


def _reasons(table: pa.Table, reader: LogReader, file: str, first_row: int) -> np.ndarray:
    """uint8 [rows]: kept, rated too low, or without a rating while one is asked for."""
    if reader.min_rating is None:
        return np.zeros(table.num_rows, np.uint8)
    column = reader.roles["rating"]
    origin = values.Origin(file, column, "rating", first_row)
    rating = values.as_numbers(table[column].combine_chunks(), origin, required=False)
    low = pc.fill_null(pc.less(rating, reader.min_rating), False).to_numpy(zero_copy_only=False)
    missing = pc.is_null(rating).to_numpy(zero_copy_only=False)
    return np.where(missing, NO_RATING, np.where(low, LOW_RATING, KEPT)).astype(np.uint8)


def read_catalogue(headers: Sequence[Header], roles: Roles) -> pa.Table:
    """All (item, title) rows of a catalogue, in this process; a title may be null."""
    blocks = [pa.table({"item": pa.array([], pa.string()), "title": pa.array([], pa.string())})]
    for pieces in plan_tasks(headers):
        for block in LogReader(roles)(pieces):
            blocks.append(block.select(["item", "title"]))
    return pa.concat_tables(blocks)
