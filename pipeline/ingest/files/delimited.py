"""Readers of CSV and of tables by tabs, a block of rows at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cluster.errors import UserError
from pipeline.ingest.files.contents import DAMAGE, damaged, open_payload, open_text
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.headers import tab_names

BLOCK_BYTES = 16 << 20

#: A block of rows and the number of its first row, from 1.
NumberedBlock = tuple[pa.Table, int]

_REMEDY = "Mend or remove the line; the file may be truncated there, or a quote left open."
#: A cell that a CSV writer has quoted: quotes around it, and those within it doubled.
_QUOTED = r'^"(?:[^"]|"")*"$'
#: One that must be quoted, since a quote is within it. RecBole quotes nothing, so there a title in quotes is a title.
_SURELY_QUOTED = r'^"(?:[^"]|"")*""(?:[^"]|"")*"$'


def read_csv(file: DataFile, columns: Sequence[str], block_bytes: int = BLOCK_BYTES) -> Iterator[NumberedBlock]:
    """Columns of a CSV file, all as text, empty fields as null.

    Nothing is inferred, so ids such as 007 keep their zeros and every block has the same types.
    Raises `UserError` naming the line of a ragged or unclosed row.
    """
    row = 1
    try:
        with open_payload(file) as stream:
            counted = _Counted(stream)
            for table in _parsed(counted, columns, pacsv.ParseOptions(newlines_in_values=True), block_bytes):
                yield table, row
                row += table.num_rows
    except pa.ArrowInvalid as error:
        if not counted.lines:
            # A header without a line end, which Arrow takes for no header.
            return
        raise _quoting_fault(file, ",") or damaged(file, error) from error
    except DAMAGE as error:
        raise damaged(file, error) from error
    # Arrow takes a quote that is left open for the begin of a value, of which the rows that follow are then a part.
    if counted.quotes % 2 or (counted.quotes and counted.lines > row):
        fault = _quoting_fault(file, ",")
        if fault is not None:
            raise fault


def read_tabs(file: DataFile, columns: Sequence[str], block_bytes: int = BLOCK_BYTES) -> Iterator[NumberedBlock]:
    """Columns of a TSV or RecBole file, all as text, empty fields as null.

    Such tables are mostly written without quoting, so quotes are text, but for cells that show a CSV writer: in TSV
    those that are quoted whole, in RecBole only those with doubled quotes inside. A file whose rows have the right
    number of fields only when tabs and line ends in quotes belong to cells is read so.
    Raises `UserError` naming the line of a ragged row.
    """
    try:
        names = tab_names(file)
    except UnicodeDecodeError as error:
        raise _ragged_fault(file, 0) or damaged(file, error) from error
    plain = pacsv.ParseOptions(delimiter="\t", quote_char=False)
    evidence = _SURELY_QUOTED if file.format == "recbole" else _QUOTED
    row = 1
    # A row that goes on over several lines looks whole until the next line is read, which may be in the next block.
    waiting: pa.Table | None = None
    try:
        with open_payload(file) as stream:
            counted = _Counted(stream)
            for table in _parsed(counted, columns, plain, block_bytes, names):
                if waiting is not None:
                    yield waiting, row
                    row += waiting.num_rows
                waiting = _unquoted(table, evidence) if counted.quotes else table
        if waiting is not None:
            yield waiting, row
        return
    except pa.ArrowInvalid as error:
        if not counted.lines:
            return
        if not counted.quotes or _quoting_fault(file, "\t") is not None:
            raise _ragged_fault(file, len(names)) or damaged(file, error) from error
    except DAMAGE as error:
        raise damaged(file, error) from error
    yield from _after(file, columns, names, row, block_bytes)


def _after(
    file: DataFile, columns: Sequence[str], names: Sequence[str], row: int, block_bytes: int
) -> Iterator[NumberedBlock]:
    """The rows from `row` on of a table by tabs that a CSV writer has quoted; those before read alike either way."""
    quoted = pacsv.ParseOptions(delimiter="\t", newlines_in_values=True)
    begin = 1
    try:
        with open_payload(file) as stream:
            for table in _parsed(_Counted(stream), columns, quoted, block_bytes, names):
                rest = table.slice(max(0, min(row - begin, table.num_rows)))
                if rest.num_rows:
                    yield rest, begin + table.num_rows - rest.num_rows
                begin += table.num_rows
    except DAMAGE as error:
        raise damaged(file, error) from error


def _parsed(
    stream: _Counted,
    columns: Sequence[str],
    parse: pacsv.ParseOptions,
    block_bytes: int,
    names: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Arrow's blocks. With `names`, they take the place of the first line."""
    read = pacsv.ReadOptions(block_size=block_bytes)
    if names is not None:
        read = pacsv.ReadOptions(block_size=block_bytes, column_names=list(names), skip_rows=1)
    convert = pacsv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: pa.string() for name in columns},
        strings_can_be_null=True,
        null_values=[""],
    )
    for batch in pacsv.open_csv(pa.PythonFile(stream, mode="r"), read, parse, convert):
        yield pa.Table.from_batches([batch])


def _unquoted(table: pa.Table, evidence: str) -> pa.Table:
    """The cells without the quotes that a CSV writer put around and into them."""
    for index, name in enumerate(table.column_names):
        cells = table[name].cast(pa.string())
        quoted = pc.fill_null(pc.match_substring_regex(cells, evidence), False)
        if pc.any(quoted).as_py():
            bare = pc.replace_substring(pc.utf8_slice_codeunits(cells, 1, -1), '""', '"')
            bare = pc.if_else(pc.equal(bare, ""), None, bare)
            table = table.set_column(index, name, pc.if_else(quoted, bare, cells))
    return table


class _Counted:
    """A stream that counts the quotes and the line ends that go by."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.quotes = 0
        self.lines = 0

    def read(self, size: int = -1) -> bytes:
        data = bytes(self._stream.read(size))
        self.quotes += data.count(b'"')
        self.lines += data.count(b"\n")
        return data

    def close(self) -> None:
        """Whoever opened the stream closes it."""


def _quoting_fault(file: DataFile, delimiter: str) -> UserError | None:
    """The line at fault by the rules of CSV, found by a second, slower reading; None where there is none.

    In a table by tabs a cell over several lines that holds whole rows is a quote that was never meant as one.
    """
    line = 1
    try:
        with open_text(file) as text:
            rows = csv.reader(text, delimiter=delimiter, strict=True)
            width = len(next(rows))
            line = rows.line_num
            for row in rows:
                before, line = line, rows.line_num
                if row and len(row) != width:
                    what = f"has {len(row)} fields where the header has {width}"
                    return UserError(f"{file.name}, line {line} {what}.", _REMEDY)
                if delimiter == "\t" and any(_holds_rows(cell, width) for cell in row):
                    what = f"a quote is open from line {before + 1} to line {line}"
                    return UserError(f"{file.name}: {what}.", "Remove the quotes that enclose nothing.")
    except csv.Error as fault:
        what = f"the row that begins in line {line + 1} cannot be read ({fault})"
        return UserError(f"{file.name}: {what}.", _REMEDY)
    except UnicodeDecodeError:
        return UserError(f"{file.name} is not UTF-8, first after line {line}.", "Save the file as UTF-8.")
    except DAMAGE as fault:
        return damaged(file, fault)
    return None


def _holds_rows(cell: str, width: int) -> bool:
    return any(line.count("\t") == width - 1 for line in cell.split("\n")[1:-1])


def _ragged_fault(file: DataFile, width: int) -> UserError | None:
    """The first line with another number of tabs than the header, quotes being text."""
    number = 0
    try:
        with open_text(file) as text:
            for number, line in enumerate(text, start=1):
                fields = line.count("\t") + 1
                if line.strip("\r\n") and fields != width:
                    return UserError(
                        f"{file.name}, line {number} has {fields} fields where the header has {width}.",
                        "Mend or remove the line: the file may be truncated there, or a tab or line end be in a cell.",
                    )
    except UnicodeDecodeError:
        return UserError(f"{file.name} is not UTF-8, first after line {number}.", "Save the file as UTF-8.")
    except DAMAGE as fault:
        return damaged(file, fault)
    return None
