"""Iceberg tables are read by their newest metadata."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyiceberg.types import DoubleType

from cluster.errors import UserError
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.reading import Piece, read_piece
from tests.pipeline.ingest.tables import rows_of

COLUMNS = ["user_id", "item_id", "timestamp", "day"]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    (tmp_path / "wh").mkdir()
    with SqlCatalog("c", uri="sqlite:///:memory:", warehouse=f"file://{tmp_path}/wh") as catalog:
        catalog.create_namespace("shop")
        yield catalog


def _table(catalog: Catalog, name: str = "log", partitioned: bool = False) -> Table:
    table = catalog.create_table(f"shop.{name}", schema=rows_of(1).schema)
    if partitioned:
        with table.update_spec() as spec:
            spec.add_identity("day")
    return table


def _folder(table: Table) -> Path:
    return Path(table.location().removeprefix("file://"))


def _read(location: object, columns: list[str] = COLUMNS) -> list[dict[str, object]]:
    headers = read_headers(find_files(str(location), "data.interactions"))
    blocks = [block for header in headers for block, _ in read_piece(Piece(header.file), columns)]
    return _sorted([row for block in blocks for row in block.to_pylist()])


def _truth(table: Table) -> list[dict[str, object]]:
    return _sorted(table.scan().to_arrow().to_pylist())


def _sorted(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(rows, key=lambda row: str(row["timestamp"]).zfill(9))


@pytest.mark.parametrize("partitioned", [False, True])
def test_deleted_and_overwritten_rows_stay_away(catalog: Catalog, partitioned: bool) -> None:
    table = _table(catalog, partitioned=partitioned)
    table.append(rows_of(30))
    table.overwrite(rows_of(60))
    table.append(rows_of(30, start=60))
    table.delete("user_id == 'u1'")
    rows = _read(_folder(table))
    assert rows == _truth(table)
    assert len(rows) == 72
    assert len(list(_folder(table).rglob("*.parquet"))) > len(find_files(str(_folder(table)), "k"))
    day = [row for row in rows if row["day"] == "2024-01-02"]
    if partitioned:
        assert _read(_folder(table) / "data" / "day=2024-01-02") == day
        assert _read(_folder(table) / "data" / "*-02" / "*.parquet") == day
    assert _read(_folder(table).parent) == rows


def test_renamed_added_and_typed_columns(catalog: Catalog) -> None:
    table = _table(catalog)
    table.append(rows_of(4))
    with table.update_schema() as update:
        update.rename_column("user_id", "customer")
        update.add_column("rating", DoubleType())
    later = rows_of(2, start=4).rename_columns(["customer", *COLUMNS[1:]])
    table.append(later.append_column("rating", pa.array([1.0, 2.0])))
    rows = _read(_folder(table), ["customer", "timestamp", "rating"])
    assert [row["customer"] for row in rows] == ["u0", "u1", "u2", "u3", "u4", "u0"]
    assert [row["rating"] for row in rows] == [None, None, None, None, 1.0, 2.0]


def test_an_older_snapshot_by_its_metadata_file(catalog: Catalog) -> None:
    table = _table(catalog)
    table.append(rows_of(5))
    first = table.metadata_location.removeprefix("file://")
    table.append(rows_of(5, start=5))
    assert len(_read(_folder(table))) == 10
    assert len(_read(first)) == 5


def test_a_table_that_was_moved(catalog: Catalog, tmp_path: Path) -> None:
    table = _table(catalog)
    table.append(rows_of(6))
    table.delete("timestamp == 3")
    shutil.move(_folder(table), tmp_path / "elsewhere")
    assert [row["timestamp"] for row in _read(tmp_path / "elsewhere")] == [0, 1, 2, 4, 5]
    shutil.rmtree(tmp_path / "elsewhere" / "data")
    with pytest.raises(UserError, match=r"\.parquet cannot be read"):
        read_headers(find_files(str(tmp_path / "elsewhere"), "data.interactions"))


def test_two_metadata_files_of_one_number(catalog: Catalog) -> None:
    table = _table(catalog)
    table.append(rows_of(6))
    newest = sorted((_folder(table) / "metadata").glob("*.metadata.json"))[-1]
    shutil.copy(newest, newest.with_name("00001-another.metadata.json"))
    with pytest.raises(UserError, match=r"does not show which of its files is current .*give that file as data\.inter"):
        find_files(str(_folder(table)), "data.interactions")
    assert len(_read(newest)) == 6


def test_an_empty_or_broken_table(catalog: Catalog) -> None:
    table = _table(catalog)
    with pytest.raises(UserError, match="contains no live file of the Iceberg table"):
        find_files(str(_folder(table)), "data.interactions")
    table.append(rows_of(6))
    for manifest in (_folder(table) / "metadata").glob("*.avro"):
        manifest.unlink()
    with pytest.raises(UserError, match=r"the Iceberg table .*log cannot be read through 00001"):
        find_files(str(_folder(table)), "data.interactions")
