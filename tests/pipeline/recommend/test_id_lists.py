"""Lists of ids in every form that a user may have them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from pipeline.engine.config import Columns
from pipeline.recommend.id_lists import id_values, read_ids, shown_ids

USUAL = Columns()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("users.txt", "7\n u2 \r\n\nu3\n7\n"),
        ("users", "\ufeff7\nu2\nu3"),
        ("users.csv", "name,user_id\na,7\nb,u2\nc,u3\nd,u2\n"),
        ("users.tsv", "name\tuser\na\t7\nb\tu2\nc\tu3\n"),
        ("users.jsonl", '{"user_id": "7"}\n{"user_id": "u2"}\n{"user_id": "u3"}\n'),
    ],
)
def test_ids_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_ids(str(tmp_path / name), "user", "--users", USUAL) == ["7", "u2", "u3"]


def test_ids_of_a_parquet_file_by_the_name_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "allowed.parquet"
    pq.write_table(pa.table({"sku": pa.array([3.0, 1.0, 3.0]), "art": ["a", "b", "c"]}), path)
    assert read_ids(str(path), "item", "--candidates", USUAL) == ["3", "1"]
    assert read_ids(str(path), "item", "--candidates", Columns(item="art")) == ["a", "b", "c"]
    # A column that the log has and this file lacks does not matter.
    assert read_ids(str(path), "item", "--candidates", Columns(item="asin")) == ["3", "1"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "does not exist"),
        ("blank.txt", b"\n \n", "holds no user id"),
        ("latin.txt", "Jos\xe9".encode("latin-1"), "not text in UTF-8"),
        ("bare.csv", b"u1\nu2\n", "has no user column. It has u1"),
        ("hole.csv", b"user_id,n\nu1,1\n,2\n", "row 2: the user id is missing"),
        ("pickle.pkl", b"x", "is a pickle"),
    ],
)
def test_what_is_no_list_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_ids(str(tmp_path / name), "user", "--users", USUAL)
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert caught.value.remedy


def test_ids_in_memory() -> None:
    assert id_values([3, 1, 3], "user", "--users") == ["3", "1"]
    assert id_values(np.array([3, 1]), "user", "--users") == ["3", "1"]
    assert id_values(pd.Series(["a", "b"]), "user", "--users") == ["a", "b"]
    assert id_values({"a": 0, "b": 0}, "user", "--users") == ["a", "b"]
    for wrong, words in (
        ([], "holds no user id"),
        ([1, "a"], "several types"),
        ([None, "a"], "missing"),
        ([1.5], "1.5"),
    ):
        with pytest.raises(UserError, match=words):
            id_values(wrong, "user", "--users")


def test_a_message_shows_some_ids() -> None:
    assert shown_ids(["a", "b"]) == "a, b"
    assert shown_ids([str(n) for n in range(2000)]) == "0, 1, 2, 3, 4 and 1,995 more"
