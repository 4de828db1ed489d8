"""Delta tables are read by their log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.errors import UserError
from pipeline.ingest.files.datafile import Place
from pipeline.ingest.files.delta import delta_files
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.reading import Piece, read_piece
from tests.pipeline.ingest.tables import map_columns, rows_of, strike_out

COLUMNS = ["user_id", "item_id", "timestamp", "day"]


def _read(location: object, columns: list[str] = COLUMNS) -> list[dict[str, object]]:
    headers = read_headers(find_files(str(location), "data.interactions"))
    blocks = [block for header in headers for block, _ in read_piece(Piece(header.file), columns)]
    rows = [row for block in blocks for row in block.to_pylist()]
    return sorted(rows, key=lambda row: str(row["timestamp"]).zfill(9))


def _truth(table: Path, columns: list[str] = COLUMNS) -> list[dict[str, object]]:
    """Read the table with the library's own reader."""
    rows = pa.table(DeltaTable(table).scan(columns).read_all()).to_pylist()
    return sorted(rows, key=lambda row: str(row["timestamp"]).zfill(9))


@pytest.mark.parametrize("partitions", [None, ["day"]])
def test_deleted_overwritten_and_updated_rows_stay_away(tmp_path: Path, partitions: list[str] | None) -> None:
    table = tmp_path / "log"
    write_deltalake(table, rows_of(30), partition_by=partitions)
    write_deltalake(table, rows_of(60), mode="overwrite")
    write_deltalake(table, rows_of(30, start=60), mode="append")
    DeltaTable(table).delete("user_id = 'u1'")
    DeltaTable(table).update(updates={"item_id": "'i99'"}, predicate="timestamp = 2")
    rows = _read(table)
    assert rows == _truth(table)
    assert len(rows) == 72
    assert [row["item_id"] for row in rows if row["timestamp"] == 2] == ["i99"]
    assert len(list(table.rglob("*.parquet"))) > len(find_files(str(table), "k"))
    # A checkpoint and a compaction change the files but no row.
    DeltaTable(table).create_checkpoint()
    DeltaTable(table).optimize.compact()
    assert _read(table) == rows


def test_partition_values_come_from_the_log(tmp_path: Path) -> None:
    table = rows_of(6).set_column(3, "day", pa.array(["a b", "a/b", "ü", None, "a%20b", "x=y"]))
    write_deltalake(tmp_path / "log", table, partition_by=["day"])
    assert _read(tmp_path / "log") == table.to_pylist()


@pytest.mark.parametrize("in_file", [False, True])
def test_deletion_vectors_strike_rows_out(tmp_path: Path, in_file: bool) -> None:
    table = tmp_path / "log"
    write_deltalake(table, rows_of(20))
    before = [file.identity() for file in find_files(str(table), "k")]
    strike_out(table, [0, 7, 19], in_file)
    rows = _read(table)
    assert rows == _truth(table)
    assert [row["timestamp"] for row in rows] == [n for n in range(20) if n not in (0, 7, 19)]
    # The data file is the same, but the log differs.
    assert [file.identity() for file in find_files(str(table), "k")] != before


def test_a_deletion_vector_on_a_file_that_was_rewritten(tmp_path: Path) -> None:
    """The library rewrites strings as string views."""
    write_deltalake(tmp_path / "log", rows_of(20))
    DeltaTable(tmp_path / "log").delete("timestamp = 5")
    strike_out(tmp_path / "log", [0], in_file=True)
    assert _read(tmp_path / "log") == _truth(tmp_path / "log")
    assert [row["timestamp"] for row in _read(tmp_path / "log")] == [n for n in range(1, 20) if n != 5]


def test_columns_that_were_renamed_or_added(tmp_path: Path) -> None:
    mapped = tmp_path / "mapped"
    write_deltalake(mapped, rows_of(8))
    map_columns(mapped, {"user_id": "customer"})
    assert _read(mapped, ["customer", "timestamp"]) == _truth(mapped, ["customer", "timestamp"])
    grown = tmp_path / "grown"
    write_deltalake(grown, rows_of(3))
    more = rows_of(3, start=3).append_column("rating", pa.array([1.0, 2.0, 3.0]))
    write_deltalake(grown, more, mode="append", schema_mode="merge")
    assert [row["rating"] for row in _read(grown, ["timestamp", "rating"])] == [None, None, None, 1.0, 2.0, 3.0]


def test_a_part_of_a_table_has_its_live_files_alone(tmp_path: Path) -> None:
    table = tmp_path / "log"
    write_deltalake(table, rows_of(30), partition_by=["day"])
    DeltaTable(table).delete("user_id = 'u1'")
    live = [row for row in _truth(table) if row["day"] == "2024-01-02"]
    for location in (table / "day=2024-01-02", table / "day=*-02" / "*.parquet", tmp_path / "*" / "day=2024-01-02"):
        assert _read(location) == live
    assert _read(tmp_path) == _truth(table)
    stale = sorted({str(path) for path in table.rglob("*.parquet")} - set(DeltaTable(table).file_uris()))
    for dead in (stale[0], str(table / "_delta_log"), str(table / "_delta_log" / "*.json")):
        with pytest.raises(UserError, match="contains no live file of the Delta table"):
            find_files(dead, "data.interactions")


def test_several_tables_and_other_data_beside_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_deltalake(tmp_path / name, rows_of(5))
    for location in (tmp_path, tmp_path / "*"):
        with pytest.raises(UserError, match=r"holds 2 tables \(.*/a, .*/b\)\. Name one of them"):
            find_files(str(location), "data.interactions")
    shutil.rmtree(tmp_path / "b")
    pq.write_table(rows_of(5), tmp_path / "more.parquet")
    with pytest.raises(UserError, match=r"holds the table .*/a and other data .*more\.parquet"):
        find_files(str(tmp_path), "data.interactions")


def test_a_remote_table_is_read_through_arrow(tmp_path: Path) -> None:
    """The log, its checkpoints and the deletion vectors are only read through the project's filesystem."""
    write_deltalake(tmp_path / "log", rows_of(20))
    write_deltalake(tmp_path / "log", rows_of(20), mode="overwrite")
    DeltaTable(tmp_path / "log").create_checkpoint()
    strike_out(tmp_path / "log", [3], in_file=True)
    remote = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    files = delta_files(Place(remote, "log", "s3://", "data.interactions", "s3://log"), "log", [])
    assert [file.name.startswith("s3://log/part-") for file in files] == [True]
    rows = [row for file in files for block, _ in read_piece(Piece(file), ["timestamp"]) for row in block.to_pylist()]
    assert [row["timestamp"] for row in rows] == [n for n in range(20) if n != 3]


def test_what_cannot_be_obeyed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none" / "_delta_log").mkdir(parents=True)
    pq.write_table(rows_of(5), tmp_path / "none" / "part.parquet")
    with pytest.raises(UserError, match=r"the log of the Delta table .*none cannot be read"):
        find_files(str(tmp_path / "none"), "data.interactions")
    write_deltalake(tmp_path / "log", rows_of(5))
    version = tmp_path / "log" / "_delta_log" / f"{1:020d}.json"
    for feature, message in (
        (
            "variantType",
            r"Delta table .*/log uses features .* not support: variantType\. .*write\.parquet",
        ),
        ("catalogManaged", r"the log of the Delta table .*/log cannot be read: .*catalog"),
        ("fromTheFuture", r"the log of the Delta table .*/log cannot be read: .*'fromTheFuture' is not supported"),
    ):
        features = {"readerFeatures": [feature], "writerFeatures": [feature]}
        version.write_text(json.dumps({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}) + "\n")
        with pytest.raises(UserError, match=message):
            find_files(str(tmp_path / "log"), "data.interactions")
    monkeypatch.setattr("pipeline.ingest.files.table_formats.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package deltalake, which is not inst.* pip install deltalake"):
        find_files(str(tmp_path / "log"), "data.interactions")


def test_a_file_that_the_log_names_and_is_gone(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "log", rows_of(5))
    next((tmp_path / "log").glob("*.parquet")).unlink()
    with pytest.raises(UserError, match=r"part-.*\.parquet cannot be read"):
        read_headers(find_files(str(tmp_path / "log"), "data.interactions"))
