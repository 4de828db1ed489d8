"""Tables pass through the whole stage: the tasks read what the driver found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.ingest.ingest_log import ingest
from pipeline.ingest.ingest_spec import IngestSpec
from tests.pipeline.ingest.logs import files_of
from tests.pipeline.ingest.tables import rows_of, strike_out

pytestmark = pytest.mark.usefixtures("ray_local")


def test_tables_give_what_their_live_rows_give(tmp_path: Path) -> None:
    live = rows_of(120).filter(pa.array([number % 5 != 1 and number != 77 for number in range(120)]))
    pq.write_table(live, tmp_path / "log.parquet")
    pq.write_table(
        pa.table({"item_id": [f"i{n}" for n in range(7)], "title": list("abcdefg")}), tmp_path / "items.parquet"
    )

    write_deltalake(tmp_path / "delta", rows_of(50), partition_by=["day"])
    write_deltalake(tmp_path / "delta", rows_of(120), mode="overwrite", partition_by=["day"])
    DeltaTable(tmp_path / "delta").delete("user_id = 'u1'")
    DeltaTable(tmp_path / "delta").delete("timestamp = 77")

    write_deltalake(tmp_path / "struck", rows_of(120))
    strike_out(tmp_path / "struck", [n for n in range(120) if n % 5 == 1 or n == 77], in_file=True)

    (tmp_path / "wh").mkdir()
    with SqlCatalog("c", uri="sqlite:///:memory:", warehouse=f"file://{tmp_path}/wh") as catalog:
        catalog.create_namespace("shop")
        table = catalog.create_table("shop.log", schema=live.schema)
        table.append(rows_of(50))
        table.overwrite(rows_of(120))
        table.delete("user_id == 'u1'")
        table.delete("timestamp == 77")

    outputs = []
    for name in ("log.parquet", "delta", "struck", "wh"):
        out = Storage.at(tmp_path / "out" / name)
        spec = IngestSpec(
            interactions=str(tmp_path / name), items=str(tmp_path / "items.parquet"), per_user="all", shards=3
        )
        ingest(spec, out, SilentProgress())
        outputs.append(files_of(out))
    assert outputs[1:] == outputs[:1] * 3
