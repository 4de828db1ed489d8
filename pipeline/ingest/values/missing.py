"""Recognise text that stands for a missing value."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

#: Spellings of a missing value in databases and data frames that no id or title has.
MARKS = ("\\n", "<na>", "nat", "#n/a", "(null)", "<null>", "<none>")
#: Spellings of a missing value that may also be a name; compared without case.
WORDS = ("nan", "-nan", "null", "none", "nil", "na", "n/a", "undefined")
_BOTH = pa.array([*MARKS, *WORDS])
_LONGEST = max(len(word) for word in _BOTH.to_pylist())


def looks_missing(text: pa.Array) -> pa.Array:
    """Return bool [rows]: what reads like a missing value; null counts as false."""
    short = pc.fill_null(pc.less_equal(pc.binary_length(text), _LONGEST), False)
    if not pc.any(short).as_py():
        return short
    return pc.and_(short, pc.is_in(pc.utf8_lower(text), value_set=_BOTH))


def without_missing(text: pa.Array) -> pa.Array:
    """Replace what reads like a missing value with null; for numbers and times, which are never spelled so."""
    return pc.if_else(looks_missing(text), None, text)


def is_mark(word: str) -> bool:
    """Return whether text that looks missing can be nothing else."""
    return word.lower() in MARKS


def without_nulls(values: pa.Array, null_values: Sequence[str]) -> pa.Array:
    """Replace the values that the user calls missing with null."""
    if not null_values:
        return values
    absent = pc.is_in(pc.utf8_trim_whitespace(values), value_set=pa.array([value.strip() for value in null_values]))
    return pc.if_else(absent, None, values)
