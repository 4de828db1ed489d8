"""Read the columns of input files on the driver, before any work starts."""

from __future__ import annotations

import csv
import itertools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from pipeline.ingest.files.contents import DAMAGE, check_contents, damaged, is_blank, open_text
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.json_line import check_rows_of_objects, is_python, parse_json_line

log = logging.getLogger("dealrec.ingest")

Kind = Literal["text", "number", "datetime", "other"]

#: The number of first lines whose keys count as columns.
_JSON_SAMPLE = 10_000


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Attributes
    ----------
    file : the file; `given` holds only the columns of its path that are not in the file itself.
    kinds : column name -> the kind of its values; in text files all are text until they are parsed.
    row_groups : the number of rows in each row group of a Parquet file; empty for other formats.
    """

    file: DataFile
    kinds: dict[str, Kind]
    row_groups: tuple[int, ...] = ()


def read_headers(files: Sequence[DataFile]) -> list[Header]:
    """Check and read every header, several files at a time.

    Empty files are left out: Spark and others write them for parts without rows.
    Raises `UserError` for a file that cannot be used, and if all files are empty.
    """
    with ThreadPoolExecutor(max_workers=16) as pool:
        blank = list(pool.map(is_blank, files))
        headers = list(pool.map(read_header, (file for file, empty in zip(files, blank, strict=True) if not empty)))
    if not headers:
        raise UserError(
            f"{files[0].name} is empty."
            if len(files) == 1
            else f"All {len(files)} files are empty: {files[0].name}, ...",
            "Remove the empty files, or write them again.",
        )
    with_rows = [header for header in headers if header.file.format != "parquet" or _may_have_rows(header)] or headers
    if len(with_rows) < len(files):
        log.info("Left out %d of %d files, which are empty", len(files) - len(with_rows), len(files))
    return with_rows


def _may_have_rows(header: Header) -> bool:
    return header.file.rows is not None or sum(header.row_groups) > 0


def read_header(file: DataFile) -> Header:
    """Check the contents of one file and read its columns."""
    check_contents(file)
    try:
        return _with_given(_own_header(file))
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise damaged(file, error) from error


def _own_header(file: DataFile) -> Header:
    if file.rows is not None:
        return Header(file, {field.name: _kind(field.type) for field in file.rows.schema})
    if file.format == "parquet":
        return _parquet_header(file)
    if file.format == "jsonl":
        return _jsonl_header(file)
    return _delimited_header(file)


def _with_given(header: Header) -> Header:
    """Add the columns that the path gives; a column in the file takes precedence."""
    given = {column: value for column, value in header.file.given.items() if column not in header.kinds}
    kinds: dict[str, Kind] = {**header.kinds, **dict.fromkeys(given, "text")}
    return replace(header, file=replace(header.file, given=given), kinds=kinds)


def _parquet_header(file: DataFile) -> Header:
    with pq.ParquetFile(file.filesystem.open_input_file(file.path)) as parquet:
        kinds = {field.name: _kind(field.type) for field in parquet.schema_arrow}
        metadata = parquet.metadata
        groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    return Header(file, kinds, groups)


def _kind(dtype: pa.DataType) -> Kind:
    if pa.types.is_dictionary(dtype):
        return _kind(dtype.value_type)
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype):
        return "number"
    if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype):
        return "datetime"
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return "text" if any(test(dtype) for test in strings) or pa.types.is_binary(dtype) else "other"


def _delimited_header(file: DataFile) -> Header:
    if file.format == "csv":
        with open_text(file) as text:
            names = next(csv.reader(text), [])
    else:
        names = tab_names(file)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{file.name}: column '{repeated[0]}' appears twice.", "Rename one of the two.")
    if not any(names):
        raise UserError(f"{file.name} has no header line.", "Add the column names as its first line.")
    return Header(file, dict.fromkeys(names, "text"))


def tab_names(file: DataFile) -> list[str]:
    """Return the column names of a tab-separated table, without the quotes that some writers put around them."""
    with open_text(file) as text:
        cells = text.readline().rstrip("\r\n").split("\t")
    return [cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell for cell in cells]


def _jsonl_header(file: DataFile) -> Header:
    """Return the keys of the first objects; a key that only appears later is not a column."""
    kinds: dict[str, Kind] = {}
    first = ""
    with open_text(file) as text:
        for number, line in enumerate(itertools.islice(text, _JSON_SAMPLE), start=1):
            if line.strip():
                first = first or line
                for key, value in parse_json_line(file, number, line).items():
                    kinds[key] = max(kinds.get(key, "number"), _json_kind(value), key=_KIND_ORDER.index)
    check_rows_of_objects(file, first)
    if is_python(first):
        log.info("%s holds Python dicts. They take about ten times as long to read as JSON", file.name)
    return Header(file, kinds)


_KIND_ORDER: tuple[Kind, ...] = ("number", "text", "other", "datetime")


def _json_kind(value: object) -> Kind:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return "number"
    return "text" if isinstance(value, str) else "other"


def check_same_kinds(headers: Sequence[Header], columns: Sequence[str]) -> None:
    """Raise `UserError` if files differ in which of the columns they have, or in what these hold."""
    first = headers[0]
    for header, column in itertools.product(headers[1:], columns):
        if column not in header.kinds:
            raise UserError(
                f"The files have different columns: '{column}' is in {first.file.name} but not in "
                f"{header.file.name}, which has {', '.join(header.kinds)}.",
                "Give files with the same columns.",
            )
        pair = first.kinds[column], header.kinds[column]
        if header.file.format == "parquet" and pair[0] != pair[1]:
            raise UserError(
                f"The files have different types: column '{column}' is {pair[0]} in {first.file.name} and "
                f"{pair[1]} in {header.file.name}.",
                "Write all files with the same schema.",
            )
