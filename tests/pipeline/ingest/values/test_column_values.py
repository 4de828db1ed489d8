"""Types and nulls of the input's columns."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pytest

from cluster.errors import UserError
from pipeline.ingest.values.column_values import Origin, as_numbers, as_splits, as_titles
from pipeline.ingest.values.id_text import as_ids
from pipeline.ingest.values.times import as_times

ORIGIN = Origin("log.csv", "col", "item", first_row=11)
DAY = 86_400


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([1, 20]), ["1", "20"]),
        (pa.array([1, 2**64 - 1], pa.uint64()), ["1", str(2**64 - 1)]),
        (pa.array([1.0, 20.0]), ["1", "20"]),
        (pa.array([decimal.Decimal("7.0")]), ["7"]),
        (pa.array(["007", "x"]), ["007", "x"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
        (pa.array([5, 6, 5]).dictionary_encode(), ["5", "6", "5"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array([b"a"], pa.binary()), ["a"]),
    ],
)
def test_ids_become_text(values: pa.Array, text: list[str]) -> None:
    ids = as_ids(values, ORIGIN)
    assert ids.to_pylist() == text
    assert ids.type == pa.string()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1, None, None]), r"log.csv, column 'col', row 12: the item id is missing \(in 2 rows of"),
        (pa.array(["a", ""]), "row 12: the item id is missing"),
        (pa.array([1.0, float("nan")]), "row 12: the item id is missing"),
        (pa.array([None, None]), "row 11: the item id is missing"),
        (pa.array([1.0, 1.5]), "row 12: 1.5 is not a whole number"),
        (pa.array([True]), "ids cannot have type bool"),
        (pa.array([[1]]), "ids cannot have type list"),
        (pa.array([b"\xff"], pa.binary()), "not text in UTF-8"),
    ],
)
def test_what_is_no_id_is_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        as_ids(values, ORIGIN)
    assert caught.value.remedy


def test_numbers_from_text() -> None:
    assert as_numbers(pa.array([" 1.5", "1e3", "-0"]), ORIGIN).to_pylist() == [1.5, 1000.0, 0.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array(["1", "2", "abc", "x"]), "row 13: 'abc' is not a number"),
        (pa.array(["1", ""]), r"row 12: the item is missing \(in 1 row of"),
        (pa.array([1.0, None]), "row 12: the item is missing"),
        (pa.array([float("inf")]), "row 11: inf is not finite"),
        (pa.array([False]), "the column holds booleans, not numbers"),
        (pa.array([{"a": 1}]), "not a number"),
    ],
)
def test_what_is_no_number_is_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_numbers(values, ORIGIN)


def test_nulls_may_be_let_through() -> None:
    assert as_numbers(pa.array(["1", ""]), ORIGIN, required=False).to_pylist() == [1.0, None]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (pa.array([5, 7]), [5.0, 7.0]),
        (pa.array(["2000", "1999"]), [2000.0, 1999.0]),
        (pa.array(["1970-01-02", "1970-01-03 00:00:00"]), [DAY, 2 * DAY]),
        (pa.array(["1970-01-02T00:00:00Z", "1970-01-02T01:00:00+01:00"]), [DAY, DAY]),
        (pa.array(["1970-01-02 00:00:00 UTC", "1970-01-02 00:00:00.5 UTC"]), [DAY, DAY + 0.5]),
        (pa.array(["1970-01-02T00:00:01.500000000", "1970-01-02T00:00:00.250000001"]), [DAY + 1.5, DAY + 0.25]),
        (pa.array(["1970-01-02T00:00:01.500000000Z"]), [DAY + 1.5]),
        (pa.array([datetime.datetime(1970, 1, 1, 0, 0, 1, 500_000)]), [1.5]),
        (pa.array([datetime.date(1970, 1, 2)]), [DAY]),
        (pa.array([1_500_000_000], pa.timestamp("ns", "UTC")), [1.5]),
    ],
)
def test_times(values: pa.Array, seconds: list[float]) -> None:
    assert as_times(values, ORIGIN).to_pylist() == seconds


def test_text_that_is_no_time_is_refused() -> None:
    with pytest.raises(UserError, match="row 12: 'yesterday' is not a time"):
        as_times(pa.array(["1970-01-01", "yesterday"]), Origin("log.csv", "col", "timestamp", 11))


def test_splits() -> None:
    values = pa.array(["train", "valid", "Validation", " val", "test"]).dictionary_encode()
    assert as_splits(values, ORIGIN).to_pylist() == [0, 1, 1, 1, 2]
    words = pa.array(["training", "Dev", "testing", "TEST", "x_train"])
    assert as_splits(words, ORIGIN).to_pylist() == [0, 1, 2, 2, 0]
    with pytest.raises(UserError, match=r"row 12: 'later' is not a part of a split\. Use train, valid, test"):
        as_splits(pa.array(["train", "later"]), ORIGIN)
    with pytest.raises(UserError, match=r"'Holdout' is not a part of a split: it does not say whether"):
        as_splits(pa.array(["train", "Holdout"]), ORIGIN)
    for missing in (None, " "):
        with pytest.raises(UserError, match=r"row 11: the split is missing\."):
            as_splits(pa.array([missing, "train"]), ORIGIN)


def test_titles_stay_on_one_line() -> None:
    values = pa.array([" a\r\nb ", "c\u2028d\te\x00", "\n", "", None, "\u00e9  f"])
    assert as_titles(values, ORIGIN).to_pylist() == ["a b", "c d e", None, None, None, "\u00e9  f"]
