"""Put times on one scale: every row of a log must write them as its first row does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.values.column_values import (
    Origin,
    as_numbers,
    decoded,
    first_failure,
    is_text,
    missing_remedy,
    trimmed,
)
from pipeline.ingest.values.missing import without_missing

Kind = Literal["number", "date", "zoned"]

_NAMES: dict[Kind, str] = {
    "number": "a number",
    "date": "a date without a time zone",
    "zoned": "a date with a time zone",
}
_TEXT_TYPES: dict[Kind, pa.DataType] = {
    "number": pa.float64(),
    "date": pa.timestamp("us"),
    "zoned": pa.timestamp("us", "UTC"),
}
_MICROSECONDS = 1e6
#: Float32 holds whole numbers exactly up to here, but seconds since 1970 only to multiples of 128.
FLOAT32_EXACT = 2.0**24


@dataclass(frozen=True)
class TimeStyle:
    """How a log writes its times, according to the first row that has one.

    Attributes
    ----------
    kind : a number, a date, or a date with a time zone.
    place, shown : where that row is, and its value.
    dtype : the type of the column there.
    """

    kind: Kind
    place: str
    shown: str
    dtype: pa.DataType

    def named(self) -> str:
        """Return the place and the value there."""
        return f"{self.place} has {self.shown}, {_NAMES[self.kind]}"


def time_style(values: pa.Array, origin: Origin) -> TimeStyle | None:
    """Return the style of the first value that is not missing; None if there is none, or it is not a time."""
    values = decoded(values)
    dtype = values.type
    known = pc.is_valid(without_missing(trimmed(values, origin)) if is_text(dtype) else values)
    present = pc.index(known, True).as_py()
    if present < 0:
        return None
    first = values.slice(present, 1)
    kind: Kind | None = "number"
    if is_text(dtype):
        kind = _kind_of_text(trimmed(first, origin))
    elif pa.types.is_timestamp(dtype):
        kind = "date" if dtype.tz is None else "zoned"
    elif pa.types.is_date(dtype):
        kind = "date"
    return None if kind is None else TimeStyle(kind, origin.place(present), _shown(first), dtype)


def _shown(first: pa.Array) -> str:
    return f"'{pc.cast(first, pa.string())[0].as_py()}'"


def as_times(values: pa.Array, origin: Origin, style: TimeStyle | None = None) -> pa.Array:
    """Convert times to float64: numbers as they are, dates and ISO 8601 text as seconds since 1970 (UTC).

    Dates are exact to the microsecond. float64 is exact for whole numbers up to 2^53, so for seconds, milliseconds and
    microseconds; nanoseconds since 1970 are rounded to 256 ns. Arrow's timestamps are read by their unit.

    Parameters
    ----------
    style : how the log writes its times; None takes that of the first value.

    Raises `UserError` for what is not a time, for numbers mixed with dates, and for dates with and without a time zone.
    """
    values = decoded(values)
    style = style or time_style(values, origin)
    if is_text(values.type):
        values = _parsed(trimmed(values, origin), origin, style)
    elif style is not None and len(values) > values.null_count:
        own = time_style(values, origin)
        if own is not None and own.kind != style.kind:
            raise _mixed(values, pc.index(pc.is_valid(values), True).as_py(), own.kind, origin, style)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        whole = pc.cast(pc.cast(values, pa.timestamp("us"), safe=False), pa.int64())
        values = pc.divide(pc.cast(whole, pa.float64(), safe=False), _MICROSECONDS)
    return as_numbers(values, origin)


def _parsed(text: pa.Array, origin: Origin, style: TimeStyle | None) -> pa.Array:
    """Parse text in the style of the log; without a style, nothing in it is a time."""
    kind: Kind = "number" if style is None else style.kind
    if kind != "number":
        text = _plain_dates(text)
    dtype = _TEXT_TYPES[kind]
    try:
        return pc.cast(text, dtype)
    except pa.ArrowInvalid:
        known = without_missing(text)
    try:
        pc.cast(known, dtype)
    except pa.ArrowInvalid as error:
        raise _unreadable(known, origin, style, kind) from error
    row = pc.index(pc.not_equal(pc.is_valid(known), pc.is_valid(text)), True).as_py()
    raise origin.fault(f"the {origin.role} is missing ('{text[row].as_py()}')", row, missing_remedy(origin))


def _unreadable(text: pa.Array, origin: Origin, style: TimeStyle | None, kind: Kind) -> Exception:
    row = first_failure(text, _TEXT_TYPES[kind])
    own = _kind_of_text(text.slice(row, 1))
    if own is not None and style is not None and own != kind:
        return _mixed(text, row, own, origin, style)
    like = f" like that of {style.place} ({style.shown})" if style is not None and own is None else ""
    remedy = f"Write numbers or ISO 8601 dates, or correct data.columns.{origin.role}."
    return origin.fault(f"'{text[row].as_py()}' is not a time{like}", row, remedy)


def _mixed(values: pa.Array, row: int, own: Kind, origin: Origin, style: TimeStyle) -> Exception:
    what = f"{_shown(values.slice(row, 1))} is {_NAMES[own]}, but {style.named()}"
    return origin.fault(what, row, "Write all times of the log in one format.")


def _plain_dates(text: pa.Array) -> pa.Array:
    """Rewrite BigQuery's ` UTC` as ISO 8601 does, and drop digits of a second after the sixth."""
    text = pc.replace_substring_regex(text, r" UTC$", "Z")
    return pc.replace_substring_regex(text, r"(\.\d{6})\d{1,3}", r"\1")


def _kind_of_text(first: pa.Array) -> Kind | None:
    """Return how one value is written; a number comes before a date, since four digits could be a year."""
    for kind, dtype in _TEXT_TYPES.items():
        try:
            pc.cast(first if kind == "number" else _plain_dates(first), dtype)
        except pa.ArrowInvalid:
            continue
        return kind
    return None
