"""Columns that are written in the path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster.errors import UserError
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.partitions import path_columns
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.reading import LogReader, plan_tasks, read_catalogue
from pipeline.ingest.values.columns import resolve_catalogue, resolve_log
from tests.pipeline.ingest.logs import write

FRAME = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2], "title": ["X", "Y"]})


def _read(location: object, spec: IngestSpec, min_rating: float | None = None) -> list[dict[str, Any]]:
    headers = read_headers(find_files(str(location), "data.interactions"))
    reader = LogReader(resolve_log(headers, spec), min_rating)
    return [row for task in plan_tasks(headers) for block in reader(task) for row in block.to_pylist()]


def test_folders_that_name_a_value() -> None:
    assert path_columns("a/dt=2024-01-01/country=C%C3%B4te%20d%27Ivoire/b c=1%2F2") == {
        "dt": "2024-01-01",
        "country": "Côte d'Ivoire",
        "b c": "1/2",
    }
    assert path_columns("dt=__HIVE_DEFAULT_PARTITION__/x=/=y/z") == {"dt": None, "x": None}


@pytest.mark.parametrize("extension", ["parquet", "csv", "csv.gz", "tsv", "jsonl"])
def test_every_role_may_come_from_the_path(tmp_path: Path, extension: str) -> None:
    """A user, a time, a rating and a split may be in the path, in every format."""
    for day, user, rating, fold in (("2024-01-02", "u 1", 5, "train"), ("2024-01-01", "u/2", 1, "test")):
        folder = f"dt={day}/who={user.replace('/', '%2F').replace(' ', '%20')}/r={rating}/fold={fold}"
        write(FRAME[["item_id", "title"]], tmp_path / "log" / folder / f"part-0.{extension}")
    columns = {"timestamp": "dt", "user": "who", "rating": "r", "split": "fold"}
    rows = _read(tmp_path / "log", IngestSpec(interactions="k", split="column", columns=columns, min_rating=1), 2)
    kept = [row for row in rows if row["reason"] == 0]
    assert len(rows) == 4
    assert [(row["user"], row["item"], row["timestamp"], row["split"], row["title"]) for row in kept] == [
        ("u 1", "x", 1704153600.0, 0, "X"),
        ("u 1", "y", 1704153600.0, 0, "Y"),
    ]


def test_a_missing_value_in_the_path_is_missing(tmp_path: Path) -> None:
    write(FRAME, tmp_path / "dt=__HIVE_DEFAULT_PARTITION__" / "a.csv")
    with pytest.raises(UserError, match=r"a\.csv, column 'dt', row 1: the timestamp is missing"):
        _read(tmp_path, IngestSpec(interactions="k", columns={"timestamp": "dt"}))


def test_usual_names_in_the_path_stand_behind_those_in_the_file(tmp_path: Path) -> None:
    write(FRAME.rename(columns={"timestamp": "time"}), tmp_path / "ts=9" / "step=4" / "a.csv")
    rows = _read(tmp_path, IngestSpec(interactions="k"))
    assert [row["timestamp"] for row in rows] == [1, 2]
    assert "position" not in rows[0]
    write(FRAME.drop(columns="timestamp"), tmp_path / "b" / "date=2024-01-01" / "a.csv")
    assert [row["timestamp"] for row in _read(tmp_path / "b", IngestSpec(interactions="k"))] == [1704067200.0] * 2
    write(FRAME.rename(columns={"timestamp": "position"}), tmp_path / "c" / "date=2024-01-01" / "a.csv")
    (row, _) = _read(tmp_path / "c", IngestSpec(interactions="k", split="leave_one_out"))
    assert (row["position"], "timestamp" in row) == (1, False)


def test_what_the_file_says_counts(tmp_path: Path) -> None:
    write(FRAME, tmp_path / "timestamp=7" / "a.parquet")
    assert [row["timestamp"] for row in _read(tmp_path, IngestSpec(interactions="k"))] == [1, 2]


def test_above_what_the_user_named_a_column_counts_by_name_alone(tmp_path: Path) -> None:
    folder = tmp_path / "user=bob" / "dt=2024-01-01"
    write(FRAME.drop(columns=["user_id", "timestamp"]).assign(position=1), folder / "a.csv")
    for location in (folder, folder / "a.csv", folder / "*.csv"):
        with pytest.raises(UserError, match=r"has no user column\. It has item_id, title, position"):
            _read(location, IngestSpec(interactions="k", split="leave_one_out"))
        rows = _read(location, IngestSpec(interactions="k", columns={"user": "user", "timestamp": "dt"}))
        assert [(row["user"], row["timestamp"]) for row in rows] == [("bob", 1704067200.0)] * 2
    assert {row["user"] for row in _read(tmp_path, IngestSpec(interactions="k", split="leave_one_out"))} == {"bob"}


def test_files_without_the_column_in_their_path_are_named(tmp_path: Path) -> None:
    write(FRAME, tmp_path / "dt=2024-01-01" / "a.csv")
    write(FRAME, tmp_path / "dt" / "b.csv")
    with pytest.raises(
        UserError, match=r"'dt' is in .*b\.csv but|'dt' is in .*a\.csv but not in .*b\.csv|has no column 'dt'"
    ):
        _read(tmp_path, IngestSpec(interactions="k", columns={"timestamp": "dt"}))


def test_a_catalogue_by_partitions(tmp_path: Path) -> None:
    for item, title in (("i1", "One"), ("i2", "Two")):
        write(pd.DataFrame({"title": [title]}), tmp_path / f"item_id={item}" / "a.jsonl")
    headers = read_headers(find_files(str(tmp_path), "data.items"))
    table = read_catalogue(headers, resolve_catalogue(headers, IngestSpec(interactions="k", items="k")))
    assert table.to_pylist() == [{"item": "i1", "title": "One"}, {"item": "i2", "title": "Two"}]
