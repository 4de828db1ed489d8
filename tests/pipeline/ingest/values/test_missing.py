"""Texts that stand for a missing value."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import UserError
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.reading import KEPT, NO_ID, PADDED, LogReader, plan_tasks, read_catalogue
from pipeline.ingest.values.missing import is_mark, looks_missing, without_missing, without_nulls

DRESSES = ["nan", "NaN", "NULL", "null", "None", r"\N", "N/A", "<NA>", "NaT", "#N/A", "n/a", "nil", "undefined"]


@pytest.mark.parametrize("dress", DRESSES)
def test_usual_dresses(dress: str) -> None:
    values = pa.array([dress, "u1", None, f"{dress}1"])
    assert looks_missing(values).to_pylist() == [True, False, False, False]
    assert without_missing(values).to_pylist() == [None, "u1", None, f"{dress}1"]


def test_marks_are_never_names() -> None:
    assert [word for word in DRESSES if is_mark(word)] == [r"\N", "<NA>", "NaT", "#N/A"]
    assert looks_missing(pa.array(["Nancy", "a long title"])).to_pylist() == [False, False]


def test_what_the_user_calls_missing() -> None:
    values = pa.array(["-1", " nan ", "u1", None])
    assert without_nulls(values, ["nan", "-1"]).to_pylist() == [None, None, "u1", None]
    assert without_nulls(values, []) is values


ROLES = {"user": "user", "item": "item", "timestamp": "ts"}


def _blocks(path: Path, reader: LogReader) -> pa.Table:
    tasks = plan_tasks(read_headers(find_files(str(path), "k")))
    return pa.concat_tables(block for pieces in tasks for block in reader(pieces))


def test_rows_without_an_id_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,ts\nu1,i1,1\n,i1,soon\nnull,i2,\\N\nu1,,soon\n u2 ,i2,5\n", encoding="utf-8")
    reader = LogReader(ROLES, missing_id="drop", null_values=("null", r"\N"))
    table = _blocks(path, reader)
    assert table["reason"].to_pylist() == [KEPT, KEPT, NO_ID, NO_ID, NO_ID, PADDED]
    assert table["user"].to_pylist() == ["u1", "u2", None, None, None, None]
    assert table["timestamp"].to_pylist() == [1.0, 5.0, None, None, None, None]
    with pytest.raises(UserError, match=r"log\.csv, column 'user', row 2: the user id is missing \(in 2 rows of"):
        _blocks(path, LogReader(ROLES, null_values=("null",)))


def test_rows_keep_their_numbers_behind_dropped_ones(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,ts,stars\nu1,i1,1,1\n,i1,1,1\nu1,i1,1,5\nu1,i1,soon,5\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"column 'ts', row 4: 'soon' is not a time"):
        _blocks(path, LogReader({**ROLES, "rating": "stars"}, min_rating=2))


def test_ratings_may_be_missing_in_any_dress(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,ts,stars\nu1,i1,1,\\N\nu1,i1,1,nan\nu1,i1,1,null\nu1,i1,2,5\n", encoding="utf-8")
    assert _blocks(path, LogReader({**ROLES, "rating": "stars"}, min_rating=2))["timestamp"].to_pylist()[0] == 2.0


@pytest.mark.parametrize("value", ["NaN", "null"])
def test_bare_nan_in_json_is_missing_and_a_quoted_one_is_text(tmp_path: Path, value: str) -> None:
    path = tmp_path / "log.jsonl"
    rows = ['{"user": "NaN", "item": 1, "ts": 1}', f'{{"user": {value}, "item": 2, "ts": 2}}']
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"log\.jsonl, column 'user', row 2: the user id is missing \(in 1 row of"):
        _blocks(path, LogReader(ROLES))
    assert _blocks(path, LogReader(ROLES, missing_id="drop"))["user"].to_pylist() == ["NaN", None]


def test_infinity_in_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"user": "a", "item": 1, "ts": 1}\n{"user": Infinity, "item": 2, "ts": 2}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 2, column 'user' holds Infinity"):
        _blocks(path, LogReader(ROLES))


def test_catalogues_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item,title\n i1,One\n,Two\ni3,nan\n", encoding="utf-8")
    headers = read_headers(find_files(str(path), "k"))
    roles = {"item": "item", "title": "title"}
    spec = IngestSpec(interactions="log", missing_id="drop", null_values=("nan",))
    assert read_catalogue(headers, roles, spec).to_pylist() == [
        {"item": "i1", "title": "One"},
        {"item": "i3", "title": None},
    ]
    with pytest.raises(UserError, match="row 2: the item id is missing"):
        read_catalogue(headers, roles)
