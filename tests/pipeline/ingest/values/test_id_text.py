"""Ids of every type in one spelling."""

from __future__ import annotations

import decimal
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import UserError
from pipeline.ingest.values.column_values import Origin
from pipeline.ingest.values.id_text import as_ids, padded, spelled_ids

ORIGIN = Origin("log.parquet", "col", "user", first_row=11)
TWO = [uuid.UUID(int=7), uuid.UUID("12345678-1234-5678-1234-567812345678")]


def _decimals(*numbers: str, dtype: Any) -> pa.Array:
    return pa.array([decimal.Decimal(number) for number in numbers], dtype)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (_decimals("1234567890123456789", "-12", dtype=pa.decimal128(38, 0)), ["1234567890123456789", "-12"]),
        (_decimals("99999999999999999999999999999999999999", dtype=pa.decimal128(38, 0)), ["9" * 38]),
        (_decimals("12345678901234567890.00", dtype=pa.decimal128(38, 2)), ["12345678901234567890"]),
        (_decimals("9" * 60, dtype=pa.decimal256(76, 0)), ["9" * 60]),
        (pa.array([2**64 - 1, 0], pa.uint64()), [str(2**64 - 1), "0"]),
        (pa.array([-(2**63), 2**63 - 1]), [str(-(2**63)), str(2**63 - 1)]),
        (pa.array([2.0**53, -0.0]), [str(2**53), "0"]),
        (pa.array(np.array([2**24], np.float32)), [str(2**24)]),
        (pa.array(np.array([2048], np.float16)), ["2048"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array([b"a"], pa.binary_view()), ["a"]),
        (pa.array([b"ab\x00", b"abc"], pa.binary(3)), ["ab", "abc"]),
        (pa.array([" b", "a"], pa.large_string()).dictionary_encode(), ["b", "a"]),
        (pa.array([each.bytes for each in TWO], pa.uuid()), [str(each) for each in TWO]),
        (pa.array([TWO[0].bytes, TWO[1].bytes], pa.uuid())[1:], [str(TWO[1])]),
    ],
)
def test_every_type_that_names_something(values: pa.Array, text: list[str]) -> None:
    ids = as_ids(values, ORIGIN)
    assert ids.to_pylist() == text
    assert ids.type == pa.string()


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x00", "\r\n"])
def test_blanks_around_an_id_are_not_read(blank: str) -> None:
    values = pa.array(["u1", f"u1{blank}", f"{blank}u1", f"u{blank}1"])
    assert as_ids(values, ORIGIN).to_pylist() == ["u1", "u1", "u1", f"u{blank}1"]
    marks = padded(values.dictionary_encode())
    assert marks is not None
    assert marks.to_pylist() == [False, True, True, False]
    assert spelled_ids(pa.array([blank, "u"]), ORIGIN).to_pylist() == [None, "u"]


def test_ids_without_blanks_are_left_alone() -> None:
    assert padded(pa.array(["u1", "a-b_c"])) is None
    assert padded(pa.array([1, 2])) is None
    assert padded(pa.array([b"\xff "])) is None
    assert as_ids(pa.array(["xx", "u1", "é"])[1:], ORIGIN).to_pylist() == ["u1", "é"]
    assert as_ids(pa.array([], pa.string()), ORIGIN).to_pylist() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1.0, 2.0**53 + 2]), r"row 12: 9007199254740994 is stored as float64, which rounds"),
        (pa.array(np.array([2**24 + 2], np.float32)), r"row 11: 16777218 is stored as float32"),
        (pa.array([1.0, float("inf")]), "row 12: inf is not a whole number"),
        (_decimals("7.0", "7.5", dtype=pa.decimal128(38, 1)), r"row 12: 7\.5 is not a whole number"),
        (pa.array([b"a" * 16, TWO[0].bytes[:15] + b"\xff"], pa.binary(16)), "row 12: .* is not text in UTF-8"),
        (pa.array([True]), "row 11: ids cannot have type bool"),
        (pa.array([1], pa.date32()), "ids cannot have type date32"),
        (pa.array([None, TWO[0].bytes], pa.uuid()), "row 11: the user id is missing"),
        (_decimals("1", dtype=pa.decimal128(3, 0)).take(pa.array([0, None])), "row 12: the user id is missing"),
        (pa.array(["17", "1.23E+12"]), r"row 12: the id 1\.23E\+12 is in exponent notation"),
        (pa.array(["1,5e+15 "]), r"row 11: the id 1,5e\+15 is in exponent notation"),
        (pa.array(["a", " \u200b"]), "row 12: the user id is missing .*data.missing_id: drop"),
    ],
)
def test_what_has_no_exact_spelling(values: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        as_ids(values, ORIGIN)
    assert "log.parquet, column 'col'" in caught.value.message
    assert caught.value.remedy


def test_rows_that_were_left_out_count() -> None:
    origin = Origin("log.csv", "col", "item", 11, np.array([3, 8]))
    with pytest.raises(UserError, match="row 19: the item id is missing"):
        as_ids(pa.array(["a", None]), origin)


def test_ids_that_only_resemble_exponents_are_read() -> None:
    names = ["1E5", "12E+12", "A1.5E+12", "1.5E+1", "c++"]
    assert as_ids(pa.array(names), ORIGIN).to_pylist() == names
