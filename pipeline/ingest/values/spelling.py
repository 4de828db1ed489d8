"""Ids that differ only in spelling: `7` and `007`, `1` and `1.0`, `A1` and `a1`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.values.id_text import text_bytes

_SHOWN = 3
_MARKS = r"[\p{Cc}\p{Cf}]+"


class Difference(NamedTuple):
    """A way in which two spellings of one id differ.

    Attributes
    ----------
    name : its name in messages.
    plain : a function that removes the difference.
    may_be_in : a quick test whether ids (string [n], and their bytes) may have it.
    """

    name: str
    plain: Callable[[pa.Array], pa.Array]
    may_be_in: Callable[[pa.StringArray, npt.NDArray[np.uint8]], bool]


def _without_fraction(text: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(text, r"^([+-]?\d+)\.0*$", r"\1")


def _without_zeros(text: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(text, r"^0+(\d)", r"\1")


def _visible(text: pa.Array) -> pa.Array:
    """Return text in composed form (NFC), with plain spaces and without invisible characters."""
    text = pc.replace_substring_regex(pc.utf8_normalize(text, "NFC"), _MARKS, "")
    return pc.replace_substring_regex(text, r"[\s\p{Z}]+", " ")


def _without_prefix(text: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(
        _without_zeros(pc.replace_substring_regex(text, r"^\D+(\d)", r"\1")), r"\.0*$", ""
    )


def _has_leading_zero(ids: pa.StringArray, data: npt.NDArray[np.uint8]) -> bool:
    begins = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset : ids.offset + len(ids) + 1]
    begins = begins[:-1][np.diff(begins) > 1] - begins[0]
    return bool((data[begins] == ord("0")).any())


FRACTION = Difference("a fraction of zero", _without_fraction, lambda ids, data: bool((data == ord(".")).any()))
ZEROS = Difference("leading zeros", _without_zeros, _has_leading_zero)
INVISIBLE = Difference(
    "invisible characters", _visible, lambda ids, data: bool(data.max() >= 0x7F or data.min() <= 0x20)
)
CASE = Difference("upper and lower case", pc.utf8_lower, lambda ids, data: bool(data.max() >= ord("A")))
PREFIX = Difference("a prefix", _without_prefix, lambda ids, data: True)
DIFFERENCES = (FRACTION, ZEROS, INVISIBLE, CASE)


def plain_spelling(ids: pa.StringArray) -> pa.Array:
    """Remove leading zeros, zero fractions and invisible characters from ids.

    Most ids need no work, as their bytes tell.
    """
    data = text_bytes(ids)
    if not len(data):
        return ids
    if FRACTION.may_be_in(ids, data):
        ids = FRACTION.plain(ids)
    if ZEROS.may_be_in(ids, data):
        ids = ZEROS.plain(ids)
    if INVISIBLE.may_be_in(ids, data):
        ids = INVISIBLE.plain(ids)
    return ids


@dataclass(frozen=True)
class Twins:
    """Ids that have several spellings.

    Attributes
    ----------
    difference : the way in which they differ.
    pairs : two spellings each of some of these ids.
    count : the number of ids that have more than one spelling.
    marked : the number of ids that have the mark at all (leading zeros, a fraction).
    of : the number of ids that were looked at.
    """

    difference: Difference
    pairs: tuple[tuple[str, str], ...]
    count: int
    marked: int
    of: int


def twins(ids: pa.StringArray) -> list[Twins]:
    """Return which of some distinct ids are spellings of one another, by the difference between them."""
    if not len(ids):
        return []
    data = text_bytes(ids)
    found: list[Twins] = []
    for difference in DIFFERENCES:
        if not len(data) or not difference.may_be_in(ids, data):
            continue
        plain = difference.plain(ids)
        marked = int(pc.sum(pc.not_equal(plain, ids)).as_py() or 0)
        if not marked:
            continue
        table = pa.table({"plain": plain, "id": ids})
        groups = table.group_by("plain").aggregate([("id", "count"), ("id", "min"), ("id", "max")])
        several = groups.filter(pc.greater(groups["id_count"], 1)).sort_by("plain")
        if len(several):
            shown = several.slice(0, _SHOWN)
            pairs = tuple(zip(shown["id_min"].to_pylist(), shown["id_max"].to_pylist(), strict=True))
            found.append(Twins(difference, pairs, len(several), marked, len(ids)))
    return found


def mismatch(missing: pa.Array, known: pa.Array) -> str:
    """Explain in one sentence why ids of the log are not in the catalogue; "" if spelling is not the reason.

    Parameters
    ----------
    missing : ids of the log that the catalogue lacks.
    known : ids of the catalogue.
    """
    best, sentence = 0, ""
    for difference in (*DIFFERENCES, PREFIX):
        there = difference.plain(known)
        place = pc.index_in(difference.plain(missing), value_set=pc.unique(there))
        count = len(place) - place.null_count
        # Unrelated ids, such as `i7` and `B007`, agree in some of their digits by chance.
        if count > best and (difference is not PREFIX or 2 * count >= len(missing)):
            best = count
            row = pc.index(pc.is_valid(place), True).as_py()
            own = missing[row].as_py()
            other = known[pc.index(there, difference.plain(missing.slice(row, 1))[0]).as_py()].as_py()
            sentence = (
                f"{count:,} of them would be in the catalogue but for {difference.name}: the log has {own!r} where the "
                f"catalogue has {other!r}."
            )
    return sentence


def shown_id(name: str) -> str:
    """Format an id for a message: as it is, or quoted if part of it would not be visible."""
    return name if name.isprintable() and name.isascii() and name == name.strip() else repr(name)
