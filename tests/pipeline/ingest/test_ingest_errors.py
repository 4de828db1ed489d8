"""Every fault of the input ends in one error with the place and the remedy, and leaves no output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.ingest.ingest_log import ingest
from pipeline.ingest.ingest_spec import IngestSpec
from tests.pipeline.ingest.logs import make_catalogue, make_log, write

HEADER = "user_id,item_id,timestamp,rating,title,split"
GOOD = [f"u{n % 4},i{n % 5},{n},3,T{n % 5},{'train' if n < 30 else 'valid' if n < 35 else 'test'}" for n in range(40)]

pytestmark = pytest.mark.usefixtures("ray_local")


def _fails(tmp_path: Path, match: str, lines: list[str], name: str = "log.csv", **values: Any) -> None:
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = Storage.at(tmp_path / "out")
    with pytest.raises(UserError, match=match) as caught:
        ingest(IngestSpec(**{"interactions": str(tmp_path / name), **values}), out, SilentProgress())
    assert type(caught.value) is UserError
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("row", "match", "values"),
    [
        ("u1,,5,3,T,train", r"log\.csv, column 'item_id', row 41: the item id is missing", {}),
        (
            "u1,i1,soon,3,T,train",
            r"column 'timestamp', row 41: 'soon' is not a time.*data\.columns\.timestamp",
            {},
        ),
        ("u1,i1,,3,T,train", r"column 'timestamp', row 41: the timestamp is missing", {}),
        ("u1,i1,5,good,T,train", r"column 'rating', row 41: 'good' is not a number", {"min_rating": 1}),
        ("u1,i1,5", r"log\.csv, line 42 has 3 fields where the header has 6", {}),
        ("u1,i1,5,3,T,later", r"column 'split', row 41: 'later' is not a part of a split", {"split": "column"}),
        ("u1,i9,5,3,,train", r"1 item of the log has no title: i9\. ", {}),
    ],
)
def test_faults_in_rows(tmp_path: Path, row: str, match: str, values: dict[str, Any]) -> None:
    _fails(tmp_path, match, [HEADER, *GOOD, row], **values)


def test_a_broken_line_of_json(tmp_path: Path) -> None:
    lines = ['{"user_id": 1, "item_id": 2, "timestamp": 3, "title": "T"}'] * 150 + ['{"user_id": 1,']
    _fails(tmp_path, r"log\.jsonl, line 151 is not valid JSON", lines, name="log.jsonl")


def test_an_empty_log(tmp_path: Path) -> None:
    _fails(tmp_path, "the log is empty", [HEADER])


def test_parquet_without_rows(tmp_path: Path) -> None:
    columns = {name: pa.array([], pa.string()) for name in HEADER.split(",")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    pq.ParquetWriter(tmp_path / "b.parquet", pa.table(columns).schema).close()
    spec = IngestSpec(interactions=str(tmp_path / "*.parquet"))
    with pytest.raises(UserError, match="the log is empty"):
        ingest(spec, Storage.at(tmp_path / "out"), SilentProgress())


def test_a_filter_that_leaves_nothing(tmp_path: Path) -> None:
    _fails(tmp_path, r"min_rating 4 drops all 40 interactions \(40 rated lower", [HEADER, *GOOD], min_rating=4)


def test_a_log_of_one_item(tmp_path: Path) -> None:
    rows = [f"u{row % 5},i1,{row},3,T,train" for row in range(40)]
    _fails(tmp_path, "all interactions have the same item, i1, so", [HEADER, *rows], split="leave_one_out")


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (
            ("train", "train", "test"),
            r"no interaction is marked valid for data\.split: column.*Mark interactions as valid, or",
        ),
        (("train", "Valid", "holdout"), "'holdout' is not a part of a split: it does not say whether"),
    ],
)
def test_a_split_column_that_lacks_a_part(tmp_path: Path, marks: tuple[str, ...], message: str) -> None:
    rows = [f"u{row % 5},i{row % 4},{row},3,T{row % 4},{marks[row // 14]}" for row in range(40)]
    _fails(tmp_path, message, [HEADER, *rows])


def test_users_that_do_not_come_back(tmp_path: Path) -> None:
    rows = [f"u{row // 4},i{row % 4},{row},3,T{row % 4},train" for row in range(400)]
    message = r"too few users with earlier interactions for .*whose users come back, or set data\.split: leave_one_out"
    _fails(tmp_path, message, [HEADER, *rows], split="global_time")


def test_a_catalogue_of_another_log(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nx,X\n")
    items = {"items": str(tmp_path / "items.csv")}
    _fails(tmp_path, r"5 items of the log have no title: i0, i1, i2, i3, i4\.", [HEADER, *GOOD], **items)
    _fails(tmp_path, "no item of the log has a title", [HEADER, *GOOD], missing_title="drop", **items)


@pytest.mark.parametrize(
    ("rows", "split", "match"),
    [
        (
            GOOD[:8],
            "leave_one_out",
            "too few interactions for data.split: leave_one_out. .*no valid and no test",
        ),
        (GOOD[:12], "leave_one_out", "no train sample"),
        (GOOD[:1], "global_time", "no train and no valid and no test sample"),
        (GOOD[:30], "column", "It gives 30 train, 0 valid, 0 test"),
        (
            ["u0,i1,5,3,T,train", "u0,i2,5,3,T,train", "u1,i1,5,3,T,train"],
            "global_time",
            "too many interactions at one time",
        ),
    ],
)
def test_too_few_interactions(tmp_path: Path, rows: list[str], split: str, match: str) -> None:
    _fails(tmp_path, match, [HEADER, *rows], split=split)


def test_faults_that_no_task_is_needed_for(tmp_path: Path) -> None:
    _fails(tmp_path, r"items\.csv does not exist", [HEADER, *GOOD], items=str(tmp_path / "items.csv"))
    _fails(tmp_path, r"no column 'usr' \(data\.columns\.user\)", [HEADER, *GOOD], columns={"user": "usr"})
    _fails(tmp_path, "no column names: its first line is u0, i0", GOOD)


def test_inputs_among_the_outputs_are_refused_and_kept(tmp_path: Path) -> None:
    out = Storage.at(tmp_path / "data")
    log = write(make_log(), tmp_path / "log.parquet")
    items = write(make_catalogue(make_log()), tmp_path / "data" / "items.parquet")
    spec = IngestSpec(interactions=log, items=items, per_user="all", max_history=4, shards=2)
    with pytest.raises(UserError, match="a folder that the run clears") as caught:
        ingest(spec, out, SilentProgress())
    assert "data.items" in caught.value.message
    assert Path(items).exists()


def test_reviews_are_no_catalogue(tmp_path: Path) -> None:
    lines = ["rating,title,text,asin,parent_asin,user_id,timestamp"]
    lines += [f"5,Headline {n},Long,a{n % 7},p{n % 6},u{n % 9},{1_600_000_000_000 + n}" for n in range(90)]
    _fails(
        tmp_path, r"The titles in data\.interactions \(column 'title'\) are not titles of items: 6 of 6 items", lines
    )


def test_two_units_of_time(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.csv").write_text("user,item,title,ts\n" + "u,i,T,1600000000\n" * 3)
    (tmp_path / "log" / "b.csv").write_text("user,item,title,ts\n" + "u,i,T,1600000000000\n" * 3)
    with pytest.raises(UserError, match=r"a\.csv, column 'ts', row 1 has 1600000000, .*b\.csv, .* has 1600000000000,"):
        ingest(IngestSpec(interactions=str(tmp_path / "log")), Storage.at(tmp_path / "out"), SilentProgress())
    assert not (tmp_path / "out" / "statistics.json").exists()


def test_a_filter_on_ids_that_leaves_nothing(tmp_path: Path) -> None:
    values: dict[str, Any] = {"missing_id": "drop", "null_values": ["u0", "u1", "u2", "u3"]}
    _fails(tmp_path, "data.missing_id: drop leaves out all 40 interactions", [HEADER, *GOOD], **values)


def test_a_catalogue_that_spells_its_ids_otherwise(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"I{n},T{n}\n" for n in range(5)))
    items = {"items": str(tmp_path / "items.csv")}
    why = "5 of them would be in the catalogue but for upper and lower case: "
    why += "the log has 'i0' where the catalogue has 'I0'"
    _fails(tmp_path, f"5 items of the log have no title: i0, i1, i2, i3, i4. {why}", [HEADER, *GOOD], **items)
    why = why.replace("'i0'", "'i.'").replace("'I0'", "'I.'")
    _fails(tmp_path, f"so nothing is left. {why}", [HEADER, *GOOD], missing_title="drop", **items)


def test_doubts_are_told_before_the_error_that_they_may_explain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"u{n % 4},i{n % 5},{253402300799 if n % 3 else 1_600_000_000 + n},3,T{n % 5},train" for n in range(40)]
    with caplog.at_level("WARNING", logger="dealrec.ingest"):
        _fails(tmp_path, "too many interactions at one time", [HEADER, *rows])
    assert "26 of 40 interactions (65.0%) have the time 253402300799" in caplog.text
