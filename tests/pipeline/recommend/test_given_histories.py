"""Histories that are given: from files in the formats of a log, tables and mappings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from pipeline.engine.config import Config
from pipeline.recommend.given_histories import mapped_histories, read_histories, table_histories
from pipeline.recommend.user_histories import UserHistories

ITEMS = pa.array(["a", "b", "c", "d"])


def config(**data: object) -> Config:
    return Config.model_validate({"data": {"interactions": "log.csv", **data}})


def rows(found: UserHistories) -> dict[str, list[int]]:
    return {user: found.items.row(row).tolist() for row, user in enumerate(found.users)}


def test_rows_without_a_time_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("user,item\nu2,c\nu1,b\nu2,a\nu2,c\n")
    assert rows(read_histories(str(path), config(), ITEMS)) == {"u1": [2], "u2": [3, 1, 3]}


def test_a_time_orders_and_an_exact_duplicate_counts_once(tmp_path: Path) -> None:
    table = pa.table(
        {
            "customer": ["u1", "u1", "u1", "u1"],
            "sku": ["d", "a", "d", "a"],
            "ts": pa.array([300, 100, 300, 200]),
        }
    )
    pq.write_table(table, tmp_path / "new.parquet")
    named = config(columns={"user": "customer", "item": "sku", "title": "name"})
    assert rows(read_histories(str(tmp_path / "new.parquet"), named, ITEMS)) == {"u1": [1, 1, 4]}
    assert rows(table_histories(table, named, ITEMS)) == {"u1": [1, 1, 4]}


def test_jsonl_and_the_usual_names_where_the_config_has_others(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text('{"user_id": 7, "item_id": "b"}\n{"user_id": 7, "item_id": "a"}\n')
    assert rows(read_histories(str(path), config(columns={"user": "customer"}), ITEMS)) == {"7": [2, 1]}


def test_ratings_count_as_they_do_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    table = pa.table({"user": ["u", "u", "v"], "item": ["a", "b", "c"], "rating": [5.0, 1.0, 4.0]})
    assert rows(table_histories(table, config(), ITEMS)) == {"u": [1, 2], "v": [3]}
    with caplog.at_level("INFO"):
        assert rows(table_histories(table, config(min_rating=4), ITEMS)) == {"u": [1], "v": [3]}
    assert "Left out 1 row of the histories rated below data.min_rating" in caplog.text
    without = table.drop_columns("rating")
    assert rows(table_histories(without, config(min_rating=4), ITEMS)) == {"u": [1, 2], "v": [3]}


def test_a_mapping_is_a_table_in_its_order() -> None:
    table = mapped_histories({"u": ["c", "a"], "v": ("b",)})
    assert rows(table_histories(table, config(), ITEMS)) == {"u": [3, 1], "v": [2]}
    numbers = table_histories(mapped_histories({1: [20, 10]}), config(), pa.array(["10", "20"]))
    assert rows(numbers) == {"1": [2, 1]}


@pytest.mark.parametrize(
    ("histories", "words"),
    [
        ({}, "no history"),
        ({"u": ["a"], "v": [], "w": []}, "2 users have an empty history: v, w"),
        ({"u": ["a", 1]}, "several types"),
        ({"u": "a"}, "the items of u are a text"),
    ],
)
def test_a_mapping_that_is_no_history(histories: dict[object, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        mapped_histories(histories)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,item\nu,a\nu,x\nv,y\nv,x\n", "2 items are not in the run's catalogue, in 3 rows of"),
        ("user,item\nu,x\n", "1 item is not in the run's catalogue, in 1 row of"),
        ("user,thing\nu,a\n", "has no item column. It has user, thing"),
        ("user,item\n", "has no interaction"),
        ("user,item\nu,\n", "row 1: the item id is missing"),
        ("", "is empty"),
    ],
)
def test_a_file_that_is_no_history(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "new.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_histories(str(path), config(), ITEMS)
    assert words in str(caught.value)
    assert "new.csv" in str(caught.value)
    assert caught.value.remedy
