"""Ids that differ only in spelling."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from pipeline.ingest.values.spelling import (
    CASE,
    FRACTION,
    INVISIBLE,
    ZEROS,
    Difference,
    mismatch,
    plain_spelling,
    shown_id,
    twins,
)


@pytest.mark.parametrize(
    ("ids", "plain"),
    [
        (["007", "7", "0", "00"], ["7", "7", "0", "0"]),
        (["1.0", "1.", "1.5", "-3.00"], ["1", "1", "1.5", "-3"]),
        (["cafe\u0301", "a\u200bb", "a\u00a0b"], ["caf\u00e9", "ab", "a b"]),
        (["a0", "10", "A"], ["a0", "10", "A"]),
        ([], []),
    ],
)
def test_plain_spelling(ids: list[str], plain: list[str]) -> None:
    assert plain_spelling(pa.array(ids, pa.string())).to_pylist() == plain
    assert plain_spelling(pa.array(["0x", *ids], pa.string())[1:]).to_pylist() == plain


@pytest.mark.parametrize(
    ("ids", "difference", "pairs"),
    [
        (["1", "1.0", "2", "3.0"], FRACTION, (("1", "1.0"),)),
        (["7", "007", "70"], ZEROS, (("007", "7"),)),
        (["a b", "a\u00a0b", "c"], INVISIBLE, (("a b", "a\u00a0b"),)),
        (["U1", "u1", "u2"], CASE, (("U1", "u1"),)),
    ],
)
def test_twins(ids: list[str], difference: Difference, pairs: tuple[tuple[str, str], ...]) -> None:
    for order in (ids, ids[::-1]):
        (found,) = twins(pa.array(order))
        assert (found.difference, found.pairs, found.count, found.of) == (difference, pairs, 1, len(ids))


def test_ids_of_their_own_have_no_twins() -> None:
    assert twins(pa.array(["0001", "0010", "1000", "1.5", "2.0", "Ab"])) == []
    assert twins(pa.array([], pa.string())) == []


@pytest.mark.parametrize(
    ("missing", "known", "why"),
    [
        (["7", "8"], ["007", "008", "9"], "2 of them .* but for leading zeros: the log has '7' where .* has '007'"),
        (["7.0", "8"], ["7"], "1 of them .* but for a fraction of zero: the log has '7.0' where .* has '7'"),
        (["A1"], ["a1"], "but for upper and lower case: the log has 'A1' where the catalogue has 'a1'"),
        (["x\u200by"], ["xy"], r"but for invisible characters: the log has 'x\\u200by' where .* has 'xy'"),
        (["12", "13"], ["item_12", "item_13"], "2 of them .* but for a prefix: the log has '12' where .* 'item_12'"),
        (["m-12"], ["item_0012"], "but for a prefix"),
        (["i1", "i2", "i3"], ["B01", "B77"], "^$"),
        (["12"], ["13"], "^$"),
        (["12"], [], "^$"),
    ],
)
def test_why_an_id_is_not_in_the_catalogue(missing: list[str], known: list[str], why: str) -> None:
    sentence = mismatch(pa.array(missing, pa.string()), pa.array(known, pa.string()))
    assert re.search(why, sentence), sentence


def test_ids_in_messages_show_what_would_not_be_seen() -> None:
    assert [shown_id(name) for name in ("i1", "a b", "a\u200bb", "é", " x")] == [
        "i1",
        "a b",
        r"'a\u200bb'",
        "'é'",
        "' x'",
    ]
