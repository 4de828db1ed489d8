"""Read CSV and tab-separated tables, one block of rows at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cluster.errors import UserError
from pipeline.engine.wording import counted
from pipeline.ingest.files.contents import DAMAGE, damaged, open_payload, open_text
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.headers import tab_names

BLOCK_BYTES = 16 << 20

#: A block of rows and the number of its first row, from 1.
NumberedBlock = tuple[pa.Table, int]

_REMEDY = "Correct or remove the line. The file may be truncated there, or a quote may be left open."
#: A cell that a CSV writer quoted: quotes around it, and quotes inside doubled.
_QUOTED = r'^"(?:[^"]|"")*"$'
#: A quoted cell with a quote inside. RecBole quotes nothing, so a title in plain quotes is the title itself.
_SURELY_QUOTED = r'^"(?:[^"]|"")*""(?:[^"]|"")*"$'


def read_csv(file: DataFile, columns: Sequence[str], block_bytes: int = BLOCK_BYTES) -> Iterator[NumberedBlock]:
    """Yield columns of a CSV file as text, with empty fields as null.

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
            # A header without a line end, which Arrow does not accept as a header.
            return
        raise _quoting_fault(file, ",") or damaged(file, error) from error
    except DAMAGE as error:
        raise damaged(file, error) from error
    # Arrow reads an open quote as the start of a value that swallows the rows after it.
    if counted.quotes % 2 or (counted.quotes and counted.lines > row):
        fault = _quoting_fault(file, ",")
        if fault is not None:
            raise fault


def read_tabs(file: DataFile, columns: Sequence[str], block_bytes: int = BLOCK_BYTES) -> Iterator[NumberedBlock]:
    """Yield columns of a TSV or RecBole file as text, with empty fields as null.

    Such tables are mostly written without quoting, so quotes are text. The exception is cells that a CSV writer has
    quoted: in TSV all cells in quotes, in RecBole only those with doubled quotes inside. If rows have the right number
    of fields only when quoted tabs and line ends belong to cells, the file is read that way.
    Raises `UserError` naming the line of a ragged row.
    """
    try:
        names = tab_names(file)
    except UnicodeDecodeError as error:
        raise _ragged_fault(file, 0) or damaged(file, error) from error
    plain = pacsv.ParseOptions(delimiter="\t", quote_char=False)
    evidence = _SURELY_QUOTED if file.format == "recbole" else _QUOTED
    row = 1
    # A row over several lines looks complete until the next line is read, which may be in the next block.
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
    """Yield the rows from `row` on of a quoted tab-separated table; earlier rows read the same either way."""
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
    """Yield Arrow's blocks. With `names`, these replace the first line."""
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
    """Return the cells without the quotes that a CSV writer put around and inside them."""
    for index, name in enumerate(table.column_names):
        cells = table[name].cast(pa.string())
        quoted = pc.fill_null(pc.match_substring_regex(cells, evidence), False)
        if pc.any(quoted).as_py():
            bare = pc.replace_substring(pc.utf8_slice_codeunits(cells, 1, -1), '""', '"')
            bare = pc.if_else(pc.equal(bare, ""), None, bare)
            table = table.set_column(index, name, pc.if_else(quoted, bare, cells))
    return table


class _Counted:
    """A stream that counts the quotes and line ends that pass through it."""

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
        """Do nothing: whoever opened the stream closes it."""


def _quoting_fault(file: DataFile, delimiter: str) -> UserError | None:
    """Return the error for the first line that breaks the rules of CSV, or None if no line does.

    It reads the file a second time, more slowly. In a tab-separated table, a cell over several lines that holds whole
    rows comes from a quote that was never meant as one.
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
                    what = f"has {counted(len(row), 'field')} where the header has {width}"
                    return UserError(f"{file.name}, line {line} {what}.", _REMEDY)
                if delimiter == "\t" and any(_holds_rows(cell, width) for cell in row):
                    what = f"a quote is open from line {before + 1} to line {line}"
                    return UserError(f"{file.name}: {what}.", "Remove quotes that do not enclose a cell.")
    except csv.Error as fault:
        what = f"the row that begins in line {line + 1} cannot be read ({fault})"
        return UserError(f"{file.name}: {what}.", _REMEDY)
    except UnicodeDecodeError:
        return _not_utf8(file, line)
    except DAMAGE as fault:
        return damaged(file, fault)
    return None


def _not_utf8(file: DataFile, line: int) -> UserError:
    return UserError(f"{file.name} is not UTF-8. The first fault is after line {line}.", "Save the file as UTF-8.")


def _holds_rows(cell: str, width: int) -> bool:
    return any(line.count("\t") == width - 1 for line in cell.split("\n")[1:-1])


def _ragged_fault(file: DataFile, width: int) -> UserError | None:
    """Return the error for the first line whose number of tabs differs from the header's; quotes are text."""
    number = 0
    try:
        with open_text(file) as text:
            for number, line in enumerate(text, start=1):
                fields = line.count("\t") + 1
                if line.strip("\r\n") and fields != width:
                    return UserError(
                        f"{file.name}, line {number} has {counted(fields, 'field')} where the header has {width}.",
                        "Correct or remove the line. The file may be truncated there, or a cell has a tab or line end.",
                    )
    except UnicodeDecodeError:
        return _not_utf8(file, number)
    except DAMAGE as fault:
        return damaged(file, fault)
    return None
