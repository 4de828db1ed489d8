"""Readers of delimited text and JSON Lines, a block of rows at a time."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from cluster.errors import UserError
from pipeline.ingest.contents import DAMAGE, damaged, open_payload, open_text
from pipeline.ingest.datafile import DataFile
from pipeline.ingest.headers import DELIMITERS, parse_json_line

BLOCK_BYTES = 16 << 20
_JSON_SAMPLE = 100

#: A block of rows and the number of its first row, from 1.
NumberedBlock = tuple[pa.Table, int]


def read_delimited(file: DataFile, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    """Columns of a CSV, TSV or RecBole file, all as text, empty fields as null.

    Nothing is inferred, so ids such as 007 keep their zeros and every block has the same types.
    Raises `UserError` naming the line of a ragged or unclosed row.
    """
    try:
        with open_payload(file) as stream:
            counted = _Counted(stream)
            row = 1
            reader = pacsv.open_csv(
                pa.PythonFile(counted, mode="r"),
                pacsv.ReadOptions(block_size=BLOCK_BYTES),
                pacsv.ParseOptions(delimiter=DELIMITERS[file.format], newlines_in_values=True),
                pacsv.ConvertOptions(
                    include_columns=list(columns),
                    column_types={name: pa.string() for name in columns},
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch]), row
                row += batch.num_rows
    except pa.ArrowInvalid as error:
        if not counted.lines:
            # A header without a line end, which Arrow takes for no header.
            return
        raise _delimited_fault(file) or damaged(file, error) from error
    except DAMAGE as error:
        raise damaged(file, error) from error
    # Arrow takes a quote that is left open for the begin of a value, of which the rows that follow are then a part.
    if counted.quotes % 2 or (counted.quotes and counted.lines > row):
        fault = _delimited_fault(file)
        if fault is not None:
            raise fault


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


def _delimited_fault(file: DataFile) -> UserError | None:
    """The line at fault, found by a second, slower reading; None where there is none.

    A row that goes on over several lines is none in CSV. Tables by tabs are mostly written without quoting, so that
    there it is a quote that was never meant as one.
    """
    remedy = "Mend or remove the line; the file may be truncated there, or a quote left open."
    line = 0
    try:
        with open_text(file) as text:
            rows = csv.reader(text, delimiter=DELIMITERS[file.format], strict=True)
            width = len(next(rows))
            for row in rows:
                before, line = line or 1, rows.line_num
                if row and len(row) != width:
                    what = f"has {len(row)} fields where the header has {width}"
                    return UserError(f"{file.name}, line {line} {what}.", remedy)
                if line > before + 1 and DELIMITERS[file.format] == "\t":
                    what = f"a quote is open from line {before + 1} to line {line}"
                    return UserError(f"{file.name}: {what}.", "Remove the quotes that enclose nothing.")
    except csv.Error as fault:
        return UserError(f"{file.name}: the row after line {line} cannot be read ({fault}).", remedy)
    except UnicodeDecodeError:
        return UserError(f"{file.name} is not UTF-8, first after line {line}.", "Save the file as UTF-8.")
    except DAMAGE as fault:
        return damaged(file, fault)
    return None


def read_jsonl(file: DataFile, columns: Sequence[str]) -> Iterator[NumberedBlock]:
    """Some keys of a JSON Lines file, an absent key as null; the others are not parsed into columns.

    Arrow's parser is used where a column holds one type, Python's where types are mixed and to find the
    line that is broken. Raises `UserError` naming that line.
    """
    line = 1
    for chunk in _whole_lines(file):
        schema = _guess(chunk, columns)
        table = None if schema is None else _parse_fast(chunk, schema)
        yield (_parse_slowly(file, chunk, columns, line) if table is None else table), line
        line += chunk.count(b"\n")


def _whole_lines(file: DataFile) -> Iterator[bytes]:
    """The file in pieces that end where a line ends."""
    rest = b""
    try:
        with open_payload(file) as stream:
            while data := bytes(stream.read(BLOCK_BYTES)):
                rest = rest.removeprefix(b"\xef\xbb\xbf") + data
                end = rest.rfind(b"\n") + 1
                if end:
                    yield rest[:end].removeprefix(b"\xef\xbb\xbf")
                    rest = rest[end:]
    except DAMAGE as error:
        raise damaged(file, error) from error
    if rest.strip():
        yield rest.removeprefix(b"\xef\xbb\xbf")


def _guess(chunk: bytes, columns: Sequence[str]) -> pa.Schema | None:
    """The types of the columns by the first lines; None where Arrow's parser has no chance."""
    try:
        sample = itertools.islice(io.BytesIO(chunk), _JSON_SAMPLE)
        rows = [json.loads(line) for line in sample if line.strip()]
        kinds = {name: {type(row.get(name)) for row in rows} - {type(None)} for name in columns}
    except (ValueError, AttributeError):
        return None
    types: dict[str, pa.DataType] = {}
    for name, kind in kinds.items():
        if kind <= {str}:
            types[name] = pa.string()
        elif kind <= {int, float}:
            types[name] = pa.int64() if kind == {int} else pa.float64()
        else:
            return None
    return pa.schema(list(types.items()))


def _parse_fast(chunk: bytes, schema: pa.Schema) -> pa.Table | None:
    try:
        return pajson.read_json(
            pa.BufferReader(chunk),
            pajson.ReadOptions(use_threads=False, block_size=len(chunk) + 1),
            pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None


def _parse_slowly(file: DataFile, chunk: bytes, columns: Sequence[str], first_line: int) -> pa.Table:
    """Line by line into text columns."""
    cells: dict[str, list[str | None]] = {name: [] for name in columns}
    for number, line in enumerate(chunk.splitlines(), start=first_line):
        if not line.strip():
            continue
        row = parse_json_line(file, number, line)
        for name, column in cells.items():
            column.append(_cell(file, number, name, row.get(name)))
    try:
        return pa.table({name: pa.array(column, pa.string()) for name, column in cells.items()})
    except UnicodeEncodeError as error:
        raise damaged(file, error) from error


def _cell(file: DataFile, line: int, name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise UserError(
            f"{file.name}, line {line}, column '{name}' holds {json.dumps(value)[:40]}.",
            "Text or a number belongs there.",
        )
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
