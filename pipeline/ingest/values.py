"""Columns as they come, turned into the types that the rest works with."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.ingest.spec import PARTS

_SPLIT_VALUES = {"train": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}
_MICROSECONDS = 1e6


@dataclass(frozen=True)
class Origin:
    """Where values come from, for messages: the file, the column, its role, the number of the first row."""

    file: str
    column: str
    role: str
    first_row: int = 1

    def fault(self, what: str, row: int, remedy: str) -> UserError:
        """The error about a value; `row` counts from 0 within these values."""
        return UserError(f"{self.file}, column '{self.column}', row {self.first_row + row}: {what}.", remedy)


def as_ids(values: pa.Array, origin: Origin) -> pa.Array:
    """Ids as text: integers in decimal, whole floats without their fraction, dictionaries decoded.

    Raises `UserError` for a missing or empty id, and for what has no one spelling (fractions, booleans, ...).
    """
    values = decoded(values)
    dtype = values.type
    if pa.types.is_floating(dtype) or pa.types.is_decimal(dtype):
        numbers = pc.cast(values, pa.float64())
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        fraction = pc.fill_null(pc.not_equal(pc.floor(numbers), numbers), False)
        huge = pc.fill_null(pc.greater(pc.abs(numbers), 2.0**53), False)
        _refuse(numbers, pc.or_(fraction, huge), "{value} is not a whole number, so not an id", origin)
        values = pc.cast(pc.cast(numbers, pa.int64()), pa.string())
    elif pa.types.is_integer(dtype) or _is_text(dtype) or pa.types.is_null(dtype):
        values = _text(values, origin)
    else:
        raise origin.fault(f"ids of type {dtype}", 0, "Store ids as text or integers.")
    absent = pc.or_(pc.is_null(values), pc.fill_null(pc.equal(values, ""), False))
    count = pc.sum(absent).as_py() or 0
    if count:
        row = pc.index(absent, True).as_py()
        remedy = f"Remove the rows without {'an' if origin.role == 'item' else 'a'} {origin.role} id."
        raise origin.fault(f"the {origin.role} id is missing ({count} such in this block)", row, remedy)
    return values


def as_numbers(values: pa.Array, origin: Origin, required: bool = True) -> pa.Array:
    """Numbers as float64. Raises `UserError` for text that is no number, infinity, and needed nulls."""
    values = decoded(values)
    if _is_text(values.type):
        text = _trimmed(values, origin)
        try:
            numbers = pc.cast(text, pa.float64())
        except pa.ArrowInvalid as error:
            row = _first_failure(text, pa.float64())
            wrong = f"'{text[row].as_py()}' is not a number"
            raise origin.fault(wrong, row, f"Correct it, or data.columns.{origin.role}.") from error
    elif pa.types.is_boolean(values.type):
        raise origin.fault("a boolean, not a number", 0, f"Correct data.columns.{origin.role}.")
    else:
        try:
            numbers = pc.cast(values, pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            remedy = f"Correct data.columns.{origin.role}."
            raise origin.fault(f"type {values.type}, not a number", 0, remedy) from error
    return _finite(numbers, origin, required)


def as_times(values: pa.Array, origin: Origin) -> pa.Array:
    """Times as float64: numbers as they are, dates and ISO 8601 text as seconds since 1970 (UTC).

    float64 is exact for whole numbers up to 2^53, so for seconds, milliseconds and microseconds; nanoseconds
    since 1970 are rounded to 256 ns.
    """
    values = decoded(values)
    if _is_text(values.type):
        values = _parsed_times(_trimmed(values, origin), origin)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        whole = pc.cast(pc.cast(values, pa.timestamp("us"), safe=False), pa.int64())
        return _finite(pc.divide(pc.cast(whole, pa.float64(), safe=False), _MICROSECONDS), origin, True)
    return as_numbers(values, origin)


def as_splits(values: pa.Array, origin: Origin) -> pa.Array:
    """The given split as int8: 0 train, 1 valid, 2 test. Raises `UserError` naming any other value."""
    text = pc.utf8_lower(pc.utf8_trim_whitespace(_text(decoded(values), origin)))
    names = pa.array(list(_SPLIT_VALUES))
    place = pc.index_in(text, value_set=names)
    unknown = pc.is_null(place)
    if pc.any(unknown).as_py():
        row = pc.index(unknown, True).as_py()
        raise origin.fault(
            f"'{text[row].as_py()}' is no split",
            row,
            f"The values are {', '.join(PARTS)} (also validation, val).",
        )
    return pc.take(pa.array(list(_SPLIT_VALUES.values()), pa.int8()), place)


def as_titles(values: pa.Array, origin: Origin) -> pa.Array:
    """Titles on one line: control characters and line breaks become a space; an empty title is null."""
    values = decoded(values)
    if not (_is_text(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type)):
        raise origin.fault(f"titles of type {values.type}", 0, "Correct data.columns.title.")
    text = pc.replace_substring_regex(_text(values, origin), r"[\p{Cc}\p{Zl}\p{Zp}]+", " ")
    return _trimmed(text, origin)


def decoded(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One plain array: chunks joined, dictionaries replaced by their values."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _is_text(dtype: pa.DataType) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(dtype) for test in tests)


def _text(values: pa.Array, origin: Origin) -> pa.Array:
    try:
        return pc.cast(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise origin.fault(f"not text in UTF-8 ({values.type})", 0, "Save the file as UTF-8.") from error


def _trimmed(values: pa.Array, origin: Origin) -> pa.Array:
    """Text without space around it; nothing but space is null."""
    text = pc.utf8_trim_whitespace(_text(values, origin))
    return pc.if_else(pc.equal(text, ""), None, text)


def _parsed_times(text: pa.Array, origin: Origin) -> pa.Array:
    """Text as numbers, else as ISO 8601 timestamps; numbers first, since four digits could be a year."""
    # As BigQuery writes it.
    text = pc.replace_substring_regex(text, r" UTC$", "Z")
    # Nanoseconds last: they reach from 1677 to 2262 only.
    readings = (pa.float64(), *(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in (None, "UTC")))
    for dtype in readings:
        try:
            return pc.cast(text, dtype)
        except pa.ArrowInvalid:
            continue
    row = max(_first_failure(text, dtype) for dtype in readings)
    raise origin.fault(
        f"'{text[row].as_py()}' is not a time like those before it",
        row,
        f"Write numbers or ISO 8601 dates, or correct data.columns.{origin.role}.",
    )


def _finite(numbers: pa.Array, origin: Origin, required: bool) -> pa.Array:
    _refuse(numbers, pc.fill_null(pc.is_inf(numbers), False), "{value} is not finite", origin)
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    if required and numbers.null_count:
        row = pc.index(pc.is_null(numbers), True).as_py()
        what = f"the {origin.role} is missing ({numbers.null_count} such in this block)"
        raise origin.fault(what, row, f"Fill it in, or remove the rows without a {origin.role}.")
    return pc.add(numbers, 0.0)  # -0.0 becomes 0.0, so that equal numbers have equal bits


def _refuse(values: pa.Array, wrong: pa.Array, what: str, origin: Origin) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise origin.fault(what.format(value=values[row].as_py()), row, "Correct it, or remove the row.")


def _first_failure(text: pa.Array, dtype: pa.DataType) -> int:
    """The row of the first value that does not parse, found by halving; an error path only."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(text[low:middle], dtype)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
