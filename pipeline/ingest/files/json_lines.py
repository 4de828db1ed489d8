"""Read JSON Lines, one block of rows at a time."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.json as pajson

from cluster.errors import UserError
from pipeline.ingest.files.contents import DAMAGE, damaged, open_payload
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.delimited import NumberedBlock
from pipeline.ingest.files.json_line import parse_json_line

BLOCK_BYTES = 16 << 20
_JSON_SAMPLE = 100


def read_jsonl(file: DataFile, columns: Sequence[str], block_bytes: int = BLOCK_BYTES) -> Iterator[NumberedBlock]:
    """Yield the given keys of a JSON Lines file; an absent key is null, and other keys are not parsed into columns.

    Arrow's parser is used if a column holds one type. Python's is used if types are mixed, and to find the line that is
    broken. Raises `UserError` naming that line.
    """
    line = 1
    for chunk in _whole_lines(file, block_bytes):
        schema = _guess(chunk, columns)
        table = None if schema is None else _parse_fast(chunk, schema)
        yield (_parse_slowly(file, chunk, columns, line) if table is None else table), line
        line += chunk.count(b"\n")


def _whole_lines(file: DataFile, block_bytes: int) -> Iterator[bytes]:
    """Yield the file in pieces of about `block_bytes` that end at the end of a line."""
    rest = b""
    try:
        with open_payload(file) as stream:
            while data := bytes(stream.read(block_bytes)):
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
    """Return the types of the columns, judged by the first lines; None if Arrow's parser cannot read them."""
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
    """Parse line by line into text columns."""
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
            f"{file.name}, line {line}, column '{name}' holds {json.dumps(value, default=repr)[:40]}.",
            "Write text or a number there.",
        )
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
