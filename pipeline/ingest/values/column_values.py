"""Convert columns as they are stored into the types that the rest works with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.engine.wording import counted
from pipeline.ingest.files.part_names import UNCLEAR, part_in
from pipeline.ingest.ingest_spec import PARTS
from pipeline.ingest.values.missing import without_missing


@dataclass(frozen=True)
class Origin:
    """Where values come from, for messages.

    Attributes
    ----------
    file, column, role : the file, its column, and the role that the column plays.
    first_row : the number of the first row, from 1.
    rows : the row of each value, int64, counted from the first row; None if no row was left out.
    """

    file: str
    column: str
    role: str
    first_row: int = 1
    rows: npt.NDArray[np.int64] | None = None

    def place(self, row: int) -> str:
        """Return file, column and row of a value; `row` counts from 0 within these values."""
        row = row if self.rows is None else int(self.rows[row])
        return f"{self.file}, column '{self.column}', row {self.first_row + row}"

    def fault(self, what: str, row: int, remedy: str) -> UserError:
        """Return the error about a value; `row` counts from 0 within these values."""
        return UserError(f"{self.place(row)}: {what}.", remedy)


def as_numbers(values: pa.Array, origin: Origin, required: bool = True) -> pa.Array:
    """Convert to float64. Raises `UserError` for text that is not a number, infinity, and nulls if `required`."""
    values = decoded(values)
    if is_text(values.type):
        text = trimmed(values, origin)
        try:
            numbers = _parsed(text)
        except pa.ArrowInvalid as error:
            row = first_failure(without_missing(text), pa.float64())
            wrong = f"'{text[row].as_py()}' is not a number"
            raise origin.fault(wrong, row, f"Correct it, or correct data.columns.{origin.role}.") from error
    elif pa.types.is_boolean(values.type):
        raise origin.fault("the column holds booleans, not numbers", 0, f"Correct data.columns.{origin.role}.")
    else:
        try:
            numbers = pc.cast(values, pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            remedy = f"Correct data.columns.{origin.role}."
            raise origin.fault(f"the column has type {values.type}, not a number", 0, remedy) from error
    return _finite(numbers, origin, required)


def _parsed(text: pa.Array) -> pa.Array:
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return pc.cast(without_missing(text), pa.float64())


def as_splits(values: pa.Array, origin: Origin) -> pa.Array:
    """Convert the given split to int8: 0 train, 1 valid, 2 test; the words are those known from file names.

    Raises `UserError` naming any other value.
    """
    text = trimmed(decoded(values), origin)
    words = pc.unique(text)
    parts = [None if word is None else part_in(word) for word in words.to_pylist()]
    numbers = pa.array([PARTS.index(part) if part in PARTS else None for part in parts], pa.int8())
    splits = pc.take(numbers, pc.index_in(text, value_set=words))
    if splits.null_count:
        row = pc.index(pc.is_null(splits), True).as_py()
        word = text[row].as_py()
        what = "the split is missing" if word is None else f"'{word}' is not a part of a split"
        what += ": it does not say whether it is for validation or test" if word and part_in(word) in UNCLEAR else ""
        remedy = f"Use {', '.join(PARTS)} (or training, validation, val, dev, testing)."
        raise origin.fault(what, row, remedy)
    return splits


def as_titles(values: pa.Array, origin: Origin) -> pa.Array:
    """Convert to titles on one line: control characters and line breaks become a space; an empty title is null."""
    values = decoded(values)
    if not (is_text(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type)):
        raise origin.fault(f"titles cannot have type {values.type}", 0, "Correct data.columns.title.")
    text = pc.replace_substring_regex(text_of(values, origin), r"[\p{Cc}\p{Zl}\p{Zp}]+", " ")
    return trimmed(text, origin)


def decoded(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return one plain array: chunks joined, dictionaries replaced by their values."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def is_text(dtype: pa.DataType) -> bool:
    """Return whether a column holds text, or bytes that may be text."""
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(test(dtype) for test in tests)


def text_of(values: pa.Array, origin: Origin) -> pa.Array:
    """Convert values to a string array. Raises `UserError` for bytes that are not UTF-8."""
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowInvalid as error:
        row = first_failure(values, pa.string())
        what = f"{values[row].as_py()!r:.60} is not text in UTF-8 (the column's type is {values.type})"
        remedy = "Save text as UTF-8, and binary ids in hexadecimal."
        raise origin.fault(what, row, remedy) from error
    except pa.ArrowNotImplementedError as error:
        what = f"the column has type {values.type}, not text"
        raise origin.fault(what, 0, f"Correct data.columns.{origin.role}.") from error


def trimmed(values: pa.Array, origin: Origin) -> pa.Array:
    """Strip white space around text; text of nothing but white space becomes null."""
    text = pc.utf8_trim_whitespace(text_of(values, origin))
    return pc.if_else(pc.equal(text, ""), None, text)


def _finite(numbers: pa.Array, origin: Origin, required: bool) -> pa.Array:
    refuse(numbers, pc.fill_null(pc.is_inf(numbers), False), "{value} is not finite", origin)
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    if required and numbers.null_count:
        row = pc.index(pc.is_null(numbers), True).as_py()
        what = f"the {origin.role} is missing (in {counted(numbers.null_count, 'row')} of this block)"
        raise origin.fault(what, row, missing_remedy(origin))
    return pc.add(numbers, 0.0)  # -0.0 becomes 0.0, so that equal numbers have equal bits


def missing_remedy(origin: Origin) -> str:
    """Return what to do about a missing value that is not an id."""
    return f"Fill it in, or remove the rows without a {origin.role}."


def plain_number(value: float) -> str:
    """Format a number for a message, whole ones with all of their digits."""
    return f"{value:.0f}" if value == int(value) else repr(value)


def refuse(
    values: pa.Array, wrong: pa.Array, what: str, origin: Origin, remedy: str = "Correct it, or remove the row."
) -> None:
    """Raise `UserError` about the first row that `wrong` (bool [rows]) marks; `what` is a format of its `value`."""
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise origin.fault(what.format(value=values[row].as_py()), row, remedy)


def first_failure(values: pa.Array, dtype: pa.DataType) -> int:
    """Return the row of the first value that cannot be cast, found by bisection; for error messages only."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(values[low:middle], dtype)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
