"""The roles of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from pipeline.ingest.files.headers import Header, read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.reading import log_reader, plan_tasks
from pipeline.ingest.values.columns import resolve_catalogue, resolve_log


def _headers(tmp_path: Path, *lines: str, name: str = "log{}.csv") -> list[Header]:
    for number, line in enumerate(lines):
        (tmp_path / name.format(number)).write_text(line + "\n", encoding="utf-8")
    return read_headers(find_files(str(tmp_path), "data.interactions"))


def _spec(**values: Any) -> IngestSpec:
    return IngestSpec(**({"interactions": "log", "items": "items", "split": "leave_one_out"} | values))


@pytest.mark.parametrize(
    ("header", "roles"),
    [
        ("user_id,item_id,timestamp", {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}),
        ("userId,movieId,rating,timestamp", {"user": "userId", "item": "movieId", "timestamp": "timestamp"}),
        ("user,asin,parent_asin,ts", {"user": "user", "item": "parent_asin", "timestamp": "ts"}),
        (
            "Reviewer ID,ASIN,unixReviewTime",
            {"user": "Reviewer ID", "item": "ASIN", "timestamp": "unixReviewTime"},
        ),
        ("uid,iid,pos", {"user": "uid", "item": "iid", "position": "pos"}),
    ],
)
def test_usual_names_are_recognised(tmp_path: Path, header: str, roles: dict[str, str]) -> None:
    assert resolve_log(_headers(tmp_path, header), _spec()) == roles


def test_an_item_id_may_be_the_title(tmp_path: Path) -> None:
    roles = resolve_log(_headers(tmp_path, "user_id,item_id,ts"), _spec(items=None, columns={"title": "item_id"}))
    assert (roles["item"], roles["title"]) == ("item_id", "item_id")
    (tmp_path / "log0.csv").write_text("user_id,item_id,ts\nu1, A  ,1\nu2,B,2\n", encoding="utf-8")
    headers = read_headers(find_files(str(tmp_path), "data.interactions"))
    spec = _spec(items=None, columns={"title": "item_id"})
    (block,) = log_reader(headers, roles, spec)(plan_tasks(headers)[0])
    assert block["item"].to_pylist()[:2] == ["A", "B"]
    assert block["title"].to_pylist()[:2] == ["A", "B"]


def test_one_column_plays_one_role(tmp_path: Path) -> None:
    headers = _headers(tmp_path, "item_id,ts")
    with pytest.raises(UserError, match=r"data.columns.item and data.columns.user are the same column, 'item_id'"):
        resolve_log(headers, _spec(columns={"user": "item_id"}))


@pytest.mark.parametrize("lines", [("user,item,pos", "user,item,pos,ts"), ("user,item,pos,ts", "user,item,pos")])
def test_times_that_only_some_files_have_are_never_left_out(tmp_path: Path, lines: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"The files have different columns: .*'ts'"):
        resolve_log(_headers(tmp_path, *lines), _spec())


def test_recbole_types_are_stripped(tmp_path: Path) -> None:
    headers = _headers(tmp_path, "user_id:token\titem_id:token\trating:float\ttimestamp:float", name="a{}.inter")
    roles = resolve_log(headers, _spec(min_rating=3.0, columns={"user": "user_id", "item": "item_id:token"}))
    assert roles["user"] == "user_id:token"
    assert roles["rating"] == "rating:float"
    (tmp_path / "a0.inter").unlink()
    headers = _headers(tmp_path, "item_id:token\tmovie_title:token_seq", name="a{}.item")
    assert resolve_catalogue(headers, _spec()) == {"item": "item_id:token", "title": "movie_title:token_seq"}


def test_configured_names_win(tmp_path: Path) -> None:
    headers = _headers(tmp_path, "user_id,who,item_id,timestamp,t")
    roles = resolve_log(headers, _spec(columns={"user": "who", "timestamp": "t", "rating": None}))
    assert roles == {"user": "who", "item": "item_id", "timestamp": "t"}


def test_the_catalogue_may_name_its_ids_otherwise(tmp_path: Path) -> None:
    roles = resolve_catalogue(_headers(tmp_path, "parent_asin,title"), _spec(columns={"item": "asin"}))
    assert roles == {"item": "parent_asin", "title": "title"}


@pytest.mark.parametrize(
    ("header", "values", "message"),
    [
        ("who,item_id,ts", {}, r"no user column\. It has who, item_id, ts\. Set data\.columns\.user"),
        ("user_id,what,ts", {}, r"no item column.*Set data\.columns\.item"),
        (
            "user_id,item_id,ts",
            {"columns": {"user": "usr"}},
            r"no column 'usr' \(data\.columns\.user\)\. It has user_id",
        ),
        (
            "user_id,item_id,ts",
            {"columns": {"rating": "stars"}},
            r"no column 'stars' \(data\.columns\.rating\)",
        ),
        (
            "user_id,item_id,pos",
            {"split": "global_time"},
            "no timestamp column, but data.split: global_time needs one",
        ),
        ("user_id,item_id,ts", {"split": "column"}, "no split column, but data.split: column needs one"),
        ("user_id,item_id,ts", {"min_rating": 3.0}, "no rating column, but data.min_rating needs one"),
        ("user_id,item_id,ts", {"items": None}, r"no title column.*data\.items to a catalogue"),
        ("user_id,item_id", {}, "neither a timestamp nor a position column"),
        ("user_id,userId,item_id,ts", {}, "'user_id' and 'userId' could each be the user"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, header: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve_log(_headers(tmp_path, header), _spec(**values))
    assert "log0.csv" in caught.value.message


@pytest.mark.parametrize(
    ("line", "name", "message"),
    [
        (
            "196,242,3,881250949",
            "log{}.csv",
            r"no column names: its first line is 196, 242, 3.*Add a first line",
        ),
        ("A1,B7,5.0,1400000000", "log{}.csv", "seems to have no column names"),
        ("196\t242\t3\t881250949", "log{}.tsv", "seems to have no column names"),
        ("1::1193::5::978300760", "log{}.csv", r"one column, '1::1193.*separated by '::'\. Write it with commas"),
        ("user_id;item_id;ts", "log{}.csv", r"separated by semicolons\. Write it with commas"),
        ("user_id\titem_id\tts", "log{}.csv", r"separated by tabs\..*is a \.tsv"),
        ("user_id,item_id,ts", "log{}.tsv", r"separated by commas\. Write it with tabs"),
    ],
)
def test_a_first_line_that_names_no_columns(tmp_path: Path, line: str, name: str, message: str) -> None:
    headers = _headers(tmp_path, line, name=name)
    for resolve in (resolve_log, resolve_catalogue):
        with pytest.raises(UserError, match=message):
            resolve(headers, _spec())


def test_a_file_of_another_kind_beside_the_log(tmp_path: Path) -> None:
    headers = _headers(tmp_path, "movieId,imdbId", "userId,movieId,timestamp")
    with pytest.raises(UserError, match=r"log0\.csv has no user column\. .*log1\.csv has 'userId'\. Name only the"):
        resolve_log(headers, _spec())


def test_a_catalogue_without_ids(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the catalogue, has no item column\. It has id, title\. Rename its column"):
        resolve_catalogue(_headers(tmp_path, "id,title"), _spec(columns={"item": "product_id"}))


def test_a_catalogue_without_titles(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no title column"):
        resolve_catalogue(_headers(tmp_path, "item_id,price"), _spec())


def test_files_must_agree(tmp_path: Path) -> None:
    headers = _headers(tmp_path, "user_id,item_id,ts", "ts,item_id,user_id,more")
    assert resolve_log(headers, _spec())["timestamp"] == "ts"
    headers = _headers(tmp_path, "user_id,item_id,ts", "user_id,item_id,time")
    with pytest.raises(UserError, match=r"different columns: 'ts' is in .*log0\.csv but not in .*log1\.csv"):
        resolve_log(headers, _spec())


def test_parquet_files_must_agree_in_type(tmp_path: Path) -> None:
    for number, users in enumerate(([1], ["1"])):
        pq.write_table(pa.table({"user_id": users, "item_id": [1], "ts": [1]}), tmp_path / f"{number}.parquet")
    headers = read_headers(find_files(str(tmp_path), "data.interactions"))
    with pytest.raises(UserError, match=r"column 'user_id' is number in .*text in"):
        resolve_log(headers, _spec())


def test_a_column_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column 'user_id' appears twice"):
        _headers(tmp_path, "user_id,user_id,ts")
