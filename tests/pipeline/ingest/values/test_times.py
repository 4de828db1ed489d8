"""All times of a log are written in one way."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cluster.errors import UserError
from pipeline.ingest.values.column_values import Origin
from pipeline.ingest.values.times import TimeStyle, as_times, time_style

ORIGIN = Origin("b.csv", "ts", "timestamp", first_row=1)
NUMBER = TimeStyle("number", "a.csv, column 'ts', row 1", "'1600000000'", pa.string())
DATE = TimeStyle("date", "a.csv, column 'ts', row 1", "'2020-01-01'", pa.string())
ZONED = TimeStyle("zoned", "a.csv, column 'ts', row 1", "'2020-01-01T00:00:00Z'", pa.string())


@pytest.mark.parametrize(
    ("values", "kind", "shown"),
    [
        (pa.array([None, 5]), "number", "'5'"),
        (pa.array(["", "2020"]), "number", "'2020'"),
        (pa.array(["NaT", "2020-01-01"]), "date", "'2020-01-01'"),
        (pa.array(["2020-01-01 00:00:00 UTC"]), "zoned", "'2020-01-01 00:00:00 UTC'"),
        (pa.array([1], pa.timestamp("ms")), "date", "'1970-01-01 00:00:00.001'"),
        (pa.array([1], pa.timestamp("ns", "UTC")), "zoned", "'1970-01-01 00:00:00.000000001Z'"),
        (pa.array([1], pa.date32()), "date", "'1970-01-02'"),
    ],
)
def test_the_first_value_tells_the_style(values: pa.Array, kind: str, shown: str) -> None:
    style = time_style(values, ORIGIN)
    assert style is not None
    assert (style.kind, style.shown) == (kind, shown)
    assert style.place == f"b.csv, column 'ts', row {2 if len(values) > 1 else 1}"


def test_nothing_has_no_style() -> None:
    assert time_style(pa.array([None, ""], pa.string()), ORIGIN) is None
    assert time_style(pa.array(["soon"]), ORIGIN) is None


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_typed_times_are_read_by_their_unit(unit: str, zone: str | None) -> None:
    values = pa.array([1_600_000_000_000_000_000], pa.timestamp("ns")).cast(pa.timestamp(unit, zone))
    assert as_times(values, ORIGIN).to_pylist() == [1_600_000_000.0]


def test_dates_beside_moments_are_midnights() -> None:
    assert as_times(pa.array(["1970-01-02", "1970-01-02T00:00:01.5"]), ORIGIN, DATE).to_pylist() == [86400, 86401.5]


@pytest.mark.parametrize(
    ("values", "style", "message"),
    [
        (pa.array(["2020-01-01"]), NUMBER, r"row 1: '2020-01-01' is a date without a time zone, but a\.csv.*1600000"),
        (pa.array(["1600000000"]), DATE, r"row 1: '1600000000' is a number, but a\.csv, column 'ts', row 1 has '2020"),
        (pa.array([1600000000]), DATE, r"row 1: '1600000000' is a number, but a\.csv"),
        (pa.array([1], pa.timestamp("s")), NUMBER, r"is a date without a time zone, but a\.csv"),
        (pa.array([None, 1], pa.timestamp("s", "UTC")), DATE, "row 2: .* is a date with a time zone, but a"),
        (pa.array(["2020-01-01 00:00"]), ZONED, "row 1: '2020-01-01 00:00' is a date without a time zone, but"),
        (pa.array(["2020-01-01", "2020-01-01T00:00Z"]), None, r"row 2: .* with a time zone, but b\.csv, .*row 1 has"),
        (pa.array(["2020-01-01", "2020"]), None, r"row 2: '2020' is a number, but b\.csv"),
        (pa.array(["soon", "2020-01-01"]), None, r"^b\.csv, column 'ts', row 1: 'soon' is not a time\."),
        (pa.array(["soon", "5"]), NUMBER, r"row 1: 'soon' is not a time like that of a\.csv, column 'ts', row 1"),
        (pa.array(["5", "soon"]), None, r"row 2: 'soon' is not a time like that of b\.csv, column 'ts', row 1 \('5'\)"),
        (pa.array(["2020-01-01", "2020-13-01"]), None, "row 2: '2020-13-01' is not a time like that of"),
        (pa.array(["5", r"\N"]), None, r"row 2: the timestamp is missing \('\\N'\)"),
        (pa.array(["NaT", "2020-01-01"]), None, r"row 1: the timestamp is missing \('NaT'\)"),
        (pa.array(["5", "nan"]), None, "row 2: the timestamp is missing"),
        (pa.array([1.0, float("nan")]), None, "row 2: the timestamp is missing"),
        (pa.array([5], pa.duration("s")), None, "row 1: the column has type duration.*not a number"),
    ],
)
def test_what_cannot_be_put_in_order(values: pa.Array, style: TimeStyle | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        as_times(values, ORIGIN, style)
    assert "b.csv, column 'ts'" in caught.value.message
    assert caught.value.remedy
