"""Checks of a log's values, from its files to the message: without Ray, block by block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cluster.errors import UserError
from pipeline.ingest.examine import Examination, Findings, say_columns
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.log_survey import merge_surveys, survey_block
from pipeline.ingest.reading import log_reader, plan_tasks, read_catalogue
from pipeline.ingest.values.columns import also_usual, resolve_catalogue, resolve_log
from pipeline.ingest.values.title_checks import count_titles
from tests.pipeline.ingest.logs import write

Change = Callable[[pd.DataFrame], None]


def _log(rows: int = 400, users: int = 30, items: int = 12) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{number}" for number in random.integers(1, users + 1, rows)],
            "item_id": [f"i{number}" for number in random.integers(1, items + 1, rows)],
            "timestamp": 1_500_000_000 + 50_000 * np.arange(rows),
        }
    )
    return frame.assign(title="Title of " + frame["item_id"]).astype({"timestamp": object})


def _examined(folder: Path, **values: Any) -> Findings:
    spec = IngestSpec(**{"interactions": str(folder / "log"), **values})
    headers = read_headers(find_files(spec.interactions, "data.interactions"))
    reader = log_reader(headers, resolve_log(headers, spec), spec)
    tasks = plan_tasks(headers)
    blocks = [block for pieces in tasks for block in reader(pieces)]
    catalogue = None
    if spec.items is not None:
        of_items = read_headers(find_files(spec.items, "data.items"))
        catalogue = read_catalogue(of_items, resolve_catalogue(of_items, spec), spec)
    survey = merge_surveys(survey_block(block) for block in blocks)
    examination = Examination(
        spec, survey, catalogue, tasks, reader, lambda items: (count_titles(block, items) for block in blocks)
    )
    return examination.findings()


def _files(folder: Path, frame: pd.DataFrame, files: int, extension: str = "csv") -> None:
    for number, rows in enumerate(np.array_split(np.arange(len(frame)), files)):
        write(frame.iloc[rows], folder / "log" / f"{number}.{extension}")


def _second_half(column: str, change: Callable[[pd.Series[Any]], Any]) -> Change:
    def apply(frame: pd.DataFrame) -> None:
        frame.loc[200:, column] = change(frame.loc[200:, column])

    return apply


def _some(column: str, value: str | int, step: int = 4) -> Change:
    def apply(frame: pd.DataFrame) -> None:
        frame.loc[::step, column] = value

    return apply


def _numbers(column: str, then: Change) -> Change:
    """Remove the letter from the ids, then apply a change."""

    def apply(frame: pd.DataFrame) -> None:
        frame[column] = frame[column].str[1:]
        then(frame)

    return apply


def _of_items(title: str, *items: str) -> Change:
    def apply(frame: pd.DataFrame) -> None:
        frame.loc[frame["item_id"].isin(items), "title"] = title

    return apply


def _headlines(frame: pd.DataFrame) -> None:
    frame["title"] = [["Five Stars", "Great", "Nice"][row % 3] if row % 2 else f"Line {row}" for row in frame.index]


FAULTS: list[tuple[Change, str, str]] = [
    (_headlines, r"12 of 12 items with two or more rows have several\. .*Item i\d+ has ", "data.items"),
    (
        _second_half("timestamp", lambda times: times * 1000),
        r"row 1 has 1500000000, which reads as seconds since 1970 \(200 rows\), but .*milliseconds .*\(200 rows\)",
        "one unit",
    ),
    (
        _some("timestamp", 1_500_000_000_000_000, step=399),
        r"\(398 rows\).*microseconds since 1970 \(2 rows\)",
        "one unit",
    ),
    (
        _some("user_id", "nan"),
        r"100 of 400 interactions have the user 'nan', more than 5 times.*row 1\)",
        "null_values",
    ),
    (_some("user_id", "None"), r"the user 'None', more than 5 times", r"data.missing_id: drop"),
    (_some("item_id", "null", 2), r"200 of 400 interactions have the item 'null', more than 5 times", "null_values"),
    (_numbers("user_id", _some("user_id", "NaN", 399)), "'NaN', but all other user ids are numbers", "null_values"),
    (_numbers("item_id", _some("item_id", "NA", 399)), "'NA', but all other item ids are numbers", "null_values"),
    (
        _some("user_id", r"\N", 399),
        r"2 of 400 .* the user '\\N', a spelling that only missing values have",
        r"\['\\N'\]",
    ),
    (_some("item_id", "<NA>", 399), "the item '<NA>', a spelling that only missing values have", "null_values"),
    (
        _of_items("nan", "i3", "i5"),
        r"2 items have the title 'nan', which reads as a missing title \(i3, i5\)",
        "null_va",
    ),
    (_of_items(r"\N", "i3"), r"1 item has the title '\\N'", "missing_title"),
    (
        _numbers("user_id", _second_half("user_id", lambda ids: ids + ".0")),
        r"30 of 60 user ids have two spellings that differ in a fraction of zero: '1' and '1\.0'",
        "Use one spelling",
    ),
    (
        _numbers("item_id", _second_half("item_id", lambda ids: ids.str.zfill(4))),
        r"12 of 24 item ids have two spellings that differ in leading zeros: '0001' and '1'",
        "Use one spelling",
    ),
    (_second_half("user_id", lambda ids: ids.str[0] + "\u200b" + ids.str[1:]), "invisible characters", "Use one"),
]


@pytest.mark.parametrize(("change", "message", "remedy"), FAULTS)
def test_faults_are_named_whatever_the_files(tmp_path: Path, change: Change, message: str, remedy: str) -> None:
    frame = _log()
    change(frame)
    if not frame["title"].isin(["nan", r"\N"]).any() and "Line 0" not in set(frame["title"]):
        frame["title"] = "Title"
    for files, extension in ((1, "csv"), (5, "jsonl"), (3, "tsv")):
        folder = tmp_path / extension
        _files(folder, frame, files, extension)
        with pytest.raises(UserError, match=message) as caught:
            _examined(folder)
        assert pd.Series([caught.value.remedy]).str.contains(remedy)[0], caught.value.remedy
        if "title" not in caught.value.message:
            assert f".{extension}, column '" in caught.value.message


WARNINGS: list[tuple[Change, str, dict[str, Any]]] = [
    (
        _some("timestamp", 0, 10),
        r"40 of 400 interactions \(10\.0%\) have the time 0, .*comes first in the user's history",
        {"unknown_times": {"0": 40}},
    ),
    (
        _some("timestamp", 4_102_444_800, 10),
        "have the time 4102444800, .*comes last in the user's history",
        {"unknown_times": {"4102444800": 40}},
    ),
    (_some("user_id", "null", 200), "2 of 400 interactions have the user 'null'. It is read as an id", {}),
    (_of_items("None", "i3"), "Item i3 has the title 'None' in data.interactions .*It is read as a title", {}),
    (
        _second_half("title", lambda titles: "New " + titles),
        r"12 of 12 items have several titles in data\.interactions .*\(i1: 'New Title of i1', 'Title of i1'",
        {"items_with_several_titles": 12},
    ),
    (
        _some("title", "A typo", 100),
        r"\d of 12 items have several titles in data\.interactions \(column 'title'\)\. The alphabetically first is",
        {"items_with_several_titles": 4},
    ),
    (
        _second_half("user_id", lambda ids: ids + " "),
        "200 interactions have blanks around the user or item id",
        {"padded_ids": 200},
    ),
    (_second_half("item_id", lambda ids: ids.str.upper()), "12 of 24 item ids .*differ in upper and lower case", {}),
    (_some("item_id", "1.5", 3), "", {}),
]


@pytest.mark.parametrize(("change", "warning", "statistics"), WARNINGS)
def test_doubts_are_told(tmp_path: Path, change: Change, warning: str, statistics: dict[str, Any]) -> None:
    frame = _log()
    change(frame)
    if "1.5" in set(frame["item_id"]):
        frame["title"] = "Title of " + frame["item_id"]
    for files in (1, 4):
        folder = tmp_path / str(files)
        _files(folder, frame, files)
        found = _examined(folder)
        assert found.statistics == statistics
        assert len(found.warnings) == bool(warning)
        assert pd.Series([*found.warnings, ""]).str.contains(warning)[0]


def test_an_ordinary_log_raises_no_doubt(tmp_path: Path) -> None:
    for extension in ("csv", "jsonl", "parquet"):
        frame = _log().astype({"timestamp": int})
        _files(tmp_path / extension, frame, 3, extension)
        assert _examined(tmp_path / extension) == Findings([], {})


def test_the_user_says_which_texts_are_missing(tmp_path: Path) -> None:
    frame = _log()
    frame.loc[::4, "user_id"] = "nan"
    _files(tmp_path, frame, 2)
    assert _examined(tmp_path, null_values=[]) == Findings([], {})
    assert _examined(tmp_path, null_values=["nan"], missing_id="drop") == Findings([], {})
    with pytest.raises(UserError, match=r"0\.csv, column 'user_id', row 1: the user id is missing \(in 50 rows"):
        _examined(tmp_path, null_values=["nan"])


def test_texts_that_the_user_did_not_name_are_told(tmp_path: Path) -> None:
    frame = _log()
    frame.loc[::4, "user_id"] = "null"
    frame.loc[::7, "title"] = "None"
    _files(tmp_path, frame, 1)
    warnings = _examined(tmp_path, null_values=("NaN",), missing_id="drop").warnings
    assert any("have the user 'null'" in text and "data.null_values: ['NaN', 'null']" in text for text in warnings)
    assert any("items have the title 'None'" in text and "['NaN', 'None']" in text for text in warnings)
    warnings = _examined(tmp_path, null_values=()).warnings
    assert not any("have the user 'null'" in text or "It is read as a title" in text for text in warnings)


def test_dotted_codes_are_not_numbers(tmp_path: Path) -> None:
    frame = _log().assign(title="T")
    frame["item_id"] = np.resize(["1", "1.0", "1.5", "2.10"], len(frame))
    _files(tmp_path, frame, 2)
    (warning,) = _examined(tmp_path).warnings
    assert "differ in a fraction of zero: '1' and '1.0'. They count as different items." in warning


def _catalogue(folder: Path, lines: list[str]) -> str:
    (folder / "items.csv").write_text("\n".join(["item_id,title", *lines]) + "\n", encoding="utf-8")
    return str(folder / "items.csv")


def test_an_item_with_two_titles_in_the_catalogue(tmp_path: Path) -> None:
    _files(tmp_path, _log(), 1)
    lines = [f"i{number},Title {number}" for number in range(1, 13)]
    for order in ([*lines, "i2,Another", "i2,Third", "i4,Zed"], ["i4,Zed", "i2,Third", "i2,Another", *lines]):
        found = _examined(tmp_path, items=_catalogue(tmp_path, order))
        assert found.statistics == {"items_with_several_titles": 2}
        (warning,) = found.warnings
        assert warning.startswith("2 of 12 items have several titles in data.items. The alphabetically first is used")
        assert "(i2: 'Another', 'Title 2'; i4: 'Title 4', 'Zed')" in warning


def test_a_title_of_many_items_is_told(tmp_path: Path) -> None:
    _files(tmp_path, _log(), 1)
    for shared, told in ((5, True), (4, False)):
        lines = [f"i{number},{'Unknown' if number <= shared else f'T{number}'}" for number in range(1, 13)]
        warnings = _examined(tmp_path, items=_catalogue(tmp_path, lines)).warnings
        assert len(warnings) == told
        assert all(warning.startswith("5 of 12 items have the title 'Unknown' in data.items") for warning in warnings)


def test_a_catalogue_in_two_languages_is_one(tmp_path: Path) -> None:
    _files(tmp_path, _log(), 1)
    lines = [f"i{number},{word} {number}" for number in range(1, 13) for word in ("Title", "Titel")]
    assert _examined(tmp_path, items=_catalogue(tmp_path, lines)).statistics == {"items_with_several_titles": 12}


def test_reviews_are_no_catalogue(tmp_path: Path) -> None:
    _files(tmp_path, _log(), 1)
    lines = [f"i{row % 12 + 1},Headline {row}" for row in range(120)]
    with pytest.raises(UserError, match=r"The titles in data\.items are not titles of items: 12 of 12") as caught:
        _examined(tmp_path, items=_catalogue(tmp_path, lines))
    assert "data.items" in caught.value.remedy


def test_why_items_are_not_in_the_catalogue(tmp_path: Path) -> None:
    frame = _log()
    frame["item_id"] = frame["item_id"].str[1:]
    _files(tmp_path, frame, 1)
    (warning,) = _examined(tmp_path, items=_catalogue(tmp_path, [f"{n:03},T{n}" for n in range(1, 13)])).warnings
    assert "12 of them would be in the catalogue but for leading zeros: the log has '" in warning


def test_float32_loses_the_order(tmp_path: Path) -> None:
    _files(tmp_path, _log().astype({"timestamp": "float32"}), 1, "parquet")
    (warning,) = _examined(tmp_path).warnings
    assert "stored as float32, which rounds times since 1970 to minutes" in warning


def test_files_that_write_their_times_differently(tmp_path: Path) -> None:
    frame = _log().astype({"timestamp": int})
    write(frame[:200], tmp_path / "log" / "a.csv")
    dates = pd.to_datetime(frame["timestamp"][200:], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")
    write(frame[200:].assign(timestamp=dates), tmp_path / "log" / "b.csv")
    with pytest.raises(UserError, match=r"b\.csv, column 'timestamp', row 1: '2017.*a\.csv.*row 1 has '1500000000'"):
        _examined(tmp_path)
    write(frame[:200].assign(timestamp=dates.iloc[0] + "+01:00"), tmp_path / "log" / "a.csv")
    with pytest.raises(UserError, match=r"b\.csv, .*without a time zone, but .*a\.csv.*with a time zone"):
        _examined(tmp_path)


def test_the_columns_that_are_read_are_told(tmp_path: Path) -> None:
    frame = _log().rename(columns={"item_id": "parent_asin"})
    frame["asin"] = frame["parent_asin"] + "v"
    _files(tmp_path, frame, 1)
    headers = read_headers(find_files(str(tmp_path / "log"), "data.interactions"))
    for columns, others in (
        ({}, ["column 'asin' could also be the item; set data.columns.item to use it"]),
        ({"item": "asin"}, []),
    ):
        spec = IngestSpec(interactions="log", columns=columns)
        roles = resolve_log(headers, spec)
        first, *rest = say_columns(roles, also_usual(headers[0], roles, spec))
        assert f"item '{columns.get('item', 'parent_asin')}'" in first
        assert rest == others
