"""Pieces, normal blocks, the rating filter."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from pipeline.ingest import reading
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.reading import LogReader, plan_tasks, read_catalogue
from tests.pipeline.ingest.logs import make_catalogue, make_log, write

ROLES = {"user": "user_id", "item": "item_id", "timestamp": "timestamp", "rating": "rating"}


def _blocks(location: Path, reader: LogReader) -> pa.Table:
    tasks = plan_tasks(read_headers(find_files(str(location), "k")))
    return pa.concat_tables(block for pieces in tasks for block in reader(pieces))


@pytest.mark.parametrize("extension", ["parquet", "csv", "csv.gz", "csv.xz", "tsv", "jsonl", "inter"])
def test_every_format_gives_the_same_rows(tmp_path: Path, extension: str) -> None:
    log = make_log()
    write(log, tmp_path / f"log.{extension}")
    names = {role: f"{name}:{'token' if role in ('user', 'item') else 'float'}" for role, name in ROLES.items()}
    table = _blocks(tmp_path, LogReader(names if extension == "inter" else ROLES))
    assert table.column_names == ["user", "item", "timestamp", "reason"]
    assert table["user"].to_pylist() == log["user_id"].astype(str).tolist()
    assert table["item"].to_pylist() == log["item_id"].astype(str).tolist()
    assert table["timestamp"].to_pylist() == log["timestamp"].tolist()


def test_low_ratings_go_before_anything_is_checked(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["a", None, "c"],
            "item_id": ["x", "y", None],
            "timestamp": [1, 2, 3],
            "rating": [4.0, 1.0, None],
        }
    )
    write(frame, tmp_path / "log.parquet")
    table = _blocks(tmp_path, LogReader(ROLES, min_rating=4.0))
    assert table["reason"].to_pylist() == [reading.KEPT, reading.LOW_RATING, reading.NO_RATING]
    assert table["user"].to_pylist() == ["a", None, None]
    with pytest.raises(UserError, match=r"log\.parquet, column 'user_id', row 2: the user id is missing"):
        _blocks(tmp_path, LogReader(ROLES))


def test_strings_stored_as_views_are_filtered_too(tmp_path: Path) -> None:
    names = {"user_id": ["a", "b"], "item_id": ["x", "y"]}
    columns = {name: pa.array(values, pa.string_view()) for name, values in names.items()}
    pq.write_table(pa.table({**columns, "timestamp": [1, 2], "rating": [5, 1]}), tmp_path / "log.parquet")
    table = _blocks(tmp_path, LogReader(ROLES, min_rating=4.0))
    assert table["user"].to_pylist() == ["a", None]


def test_row_groups_are_read_apart_and_numbered(tmp_path: Path) -> None:
    table = pa.table({"user_id": [*range(49), None], "item_id": list(range(50)), "timestamp": list(range(50))})
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=10)
    tasks = plan_tasks(read_headers(find_files(str(tmp_path), "k")), task_bytes=500, rows_per_batch=15)
    pieces = [piece for task in tasks for piece in task]
    assert len(tasks) > 1
    assert [group for piece in pieces for group in piece.row_groups] == [0, 1, 2, 3, 4]
    roles = {role: column for role, column in ROLES.items() if role != "rating"}
    with pytest.raises(UserError, match="row 50: the user id is missing"):
        list(LogReader(roles, rows_per_batch=15)(pieces))


def test_small_files_share_a_task(tmp_path: Path) -> None:
    for number in range(7):
        write(make_log(seed=number), tmp_path / f"{number}.csv")
    assert len(plan_tasks(read_headers(find_files(str(tmp_path), "k")))) == 1


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_parquet(tmp_path: Path, keep: float) -> None:
    path = Path(write(make_log(), tmp_path / "log.parquet"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match=r"log\.parquet cannot be read.*truncated"):
        read_headers(find_files(str(path), "k"))


def test_parquet_damaged_inside(tmp_path: Path) -> None:
    path = Path(write(make_log(users=400), tmp_path / "log.parquet"))
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"log\.parquet cannot be read"):
        _blocks(tmp_path, LogReader(ROLES))


def test_a_catalogue(tmp_path: Path) -> None:
    catalogue = make_catalogue(make_log())
    for extension in ("parquet", "csv", "jsonl"):
        path = write(catalogue, tmp_path / f"items.{extension}")
        table = read_catalogue(read_headers(find_files(path, "k")), {"item": "item_id", "title": "title"})
        assert table["title"].to_pylist() == catalogue["title"].tolist()
        assert table["item"].to_pylist() == catalogue["item_id"].astype(str).tolist()
