"""Ids as text in one spelling, whatever type they are stored in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine.wording import counted
from pipeline.ingest.values.column_values import Origin, decoded, is_text, refuse, text_of

#: White space, control characters and zero-width characters at either end.
_PADDING = r"^[\s\p{Z}\p{Cc}\p{Cf}]+|[\s\p{Z}\p{Cc}\p{Cf}]+$"
_EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
_DASHES = (8, 13, 18, 23)
#: A number as spreadsheets and data frames write one that is too long for them.
_SHORTENED = r"^[+-]?\d([.,]\d+)?[eE]\+\d{2,3}$"


def as_ids(values: pa.Array, origin: Origin) -> pa.Array:
    """Spell ids as text. Raises `UserError` naming the first that is missing."""
    return all_present(spelled_ids(values, origin), origin)


def all_present(ids: pa.Array, origin: Origin) -> pa.Array:
    """Return the ids. Raises `UserError` naming the first that is null."""
    if ids.null_count:
        article = "an" if origin.role == "item" else "a"
        raise origin.fault(
            f"the {origin.role} id is missing (in {counted(ids.null_count, 'row')} of this block)",
            pc.index(pc.is_null(ids), True).as_py(),
            f"Remove the rows without {article} {origin.role} id, or set data.missing_id: drop to leave them out.",
        )
    return ids


def spelled_ids(values: pa.Array, origin: Origin) -> pa.Array:
    """Spell ids as text, null if missing; equal ids get one spelling whatever type a file stores them in.

    Integers are written in decimal, whole floats and decimals without their fraction, UUIDs in their 36 characters.
    Dictionaries are decoded. Text and bytes (UTF-8) lose the white space around them.

    Raises `UserError` for what has no exact spelling: fractions, floats too large to be exact, numbers in
    exponent notation (`1.23E+12`), booleans, lists.
    """
    values = decoded(values)
    dtype = values.type
    if pa.types.is_floating(dtype):
        return _from_floats(values, origin)
    if pa.types.is_decimal(dtype):
        return _from_decimals(values, origin)
    if dtype == pa.uuid():
        return _from_uuids(values.storage)
    if pa.types.is_integer(dtype):
        return pc.cast(values, pa.string())
    if is_text(dtype) or pa.types.is_null(dtype):
        text = without_padding(text_of(values, origin))
        _refuse_shortened(text, origin)
        return pc.if_else(pc.equal(text, ""), None, text) if pc.any(pc.equal(text, "")).as_py() else text
    raise origin.fault(f"ids cannot have type {dtype}", 0, "Store ids as text or integers.")


def _refuse_shortened(text: pa.Array, origin: Origin) -> None:
    """Raise `UserError` for ids such as 1.23E+12, in which a spreadsheet writes many different long numbers."""
    if not (text_bytes(text) == ord("+")).any():
        return
    shortened = pc.fill_null(pc.match_substring_regex(text, _SHORTENED), False)
    what = "the id {value} is in exponent notation, as spreadsheets write long ones, so different ids may have merged"
    remedy = "Export the ids again from their source as text; in a spreadsheet, format the column as text first."
    refuse(text, shortened, what, origin, remedy)


def _from_floats(values: pa.Array, origin: Origin) -> pa.Array:
    exact = _EXACT[values.type.bit_width]
    numbers = pc.cast(values, pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    fraction = pc.or_(pc.not_equal(pc.floor(numbers), numbers), pc.is_inf(numbers))
    refuse(numbers, pc.fill_null(fraction, False), "{value} is not a whole number, so it cannot be an id", origin)
    rounded = pc.fill_null(pc.greater(pc.abs(numbers), float(exact)), False)
    dtype = f"float{values.type.bit_width}"
    what = f"{{value:.0f}} is stored as {dtype}, which rounds whole numbers above {exact:,}, so different ids may merge"
    refuse(numbers, rounded, what, origin, "Export the ids again from their source, as integers or text.")
    return pc.cast(pc.cast(numbers, pa.int64()), pa.string())


def _from_decimals(values: pa.Array, origin: Origin) -> pa.Array:
    if values.type.scale:
        fraction = pc.fill_null(pc.not_equal(pc.floor(values), values), False)
        refuse(values, fraction, "{value} is not a whole number, so it cannot be an id", origin)
        values = pc.cast(values, pa.decimal256(76, 0))
    return pc.cast(values, pa.string())


def _from_uuids(values: pa.FixedSizeBinaryArray) -> pa.Array:
    """Format UUIDs as their usual 36 characters, without a loop over rows."""
    data = np.frombuffer(values.buffers()[1], np.uint8)[16 * values.offset : 16 * (values.offset + len(values))]
    letters = np.full((len(values), 36), ord("-"), np.uint8)
    digits = np.delete(np.arange(36), _DASHES)
    letters[:, digits] = np.frombuffer(data.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    offsets = pa.py_buffer(np.arange(0, 36 * len(values) + 1, 36, dtype=np.int32))
    text = pa.StringArray.from_buffers(len(values), offsets, pa.py_buffer(letters.tobytes()))
    return pc.if_else(pc.is_valid(values), text, None)


def without_padding(text: pa.Array) -> pa.Array:
    """Strip white space, control characters and zero-width characters around text."""
    return pc.replace_substring_regex(text, _PADDING, "") if may_be_padded(text) else text


def padded(values: pa.Array | pa.ChunkedArray) -> pa.Array | None:
    """Return bool [rows]: which ids have padding around them and are not empty without it; None if none has."""
    values = decoded(values)
    if not is_text(values.type):
        return None
    try:
        text = pc.cast(values, pa.string())
    except pa.ArrowInvalid:
        return None  # not UTF-8; `spelled_ids` refuses it and names the row
    if not may_be_padded(text):
        return None
    bare = without_padding(text)
    return pc.fill_null(pc.and_(pc.not_equal(bare, text), pc.not_equal(bare, "")), False)


def may_be_padded(text: pa.Array) -> bool:
    """Return whether text has a byte that is a space or outside printable ASCII; it looks at bytes only."""
    data = text_bytes(text)
    return bool(len(data)) and not (data.min() > 0x20 and data.max() < 0x7F)


def text_bytes(text: pa.Array) -> npt.NDArray[np.uint8]:
    """Return all bytes of a string array, without a copy; bytes of nulls may be among them."""
    _, offsets, data = text.buffers()
    if data is None or not len(text):
        return np.empty(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[[text.offset, text.offset + len(text)]]
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[1]]
