"""The whole stage on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.ingest.ingest_log import ingest
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.statistics_record import IngestStatistics
from pipeline.ingest.writer import UNTOLD
from scoring.ids import user_shard
from tests.pipeline.ingest.logs import files_of, make_catalogue, make_log, read_parts, write
from tests.pipeline.ingest.reference import reference_tables, split_frame

pytestmark = pytest.mark.usefixtures("ray_local")


def _run(
    tmp_path: Path, name: str, rows_per_partition: int = 1 << 20, **values: Any
) -> tuple[Storage, IngestStatistics]:
    out = Storage.at(tmp_path / name)
    spec = IngestSpec(**{"per_user": "all", "max_history": 4, "shards": 5, **values})
    return out, ingest(spec, out, SilentProgress(), rows_per_partition)


def test_files_rows_and_formats_do_not_matter(tmp_path: Path) -> None:
    log = make_log()
    catalogue = make_catalogue(log)
    items = write(catalogue, tmp_path / "items.parquet")
    one, statistics = _run(tmp_path, "one", interactions=write(log, tmp_path / "log.csv"), items=items)
    expected = files_of(one)
    assert sum(not name.startswith(UNTOLD) for name in expected) == 5 * 4 + 2

    shuffled = log.sample(frac=1.0, random_state=3)
    for number, rows in enumerate(np.array_split(np.arange(len(log)), 7)):
        write(shuffled.iloc[rows], tmp_path / "seven" / f"{number}.parquet")
    seven, _ = _run(tmp_path, "out7", interactions=str(tmp_path / "seven"), items=items, rows_per_partition=100)
    assert _without_columns(files_of(seven)) == _without_columns(expected)
    assert seven.read_json("statistics.json")["columns"] == statistics["columns"]

    for extension, items_extension in (
        ("parquet", "csv"),
        ("tsv", "tsv"),
        ("jsonl", "jsonl"),
        ("inter", "item"),
    ):
        folder = tmp_path / extension
        source = write(shuffled, folder / f"log.{extension}")
        titles = write(catalogue, folder / f"items.{items_extension}")
        same, _ = _run(tmp_path, f"out-{extension}", interactions=source, items=titles)
        assert _without_columns(files_of(same)) == _without_columns(expected), extension


def _without_columns(files: dict[str, bytes]) -> dict[str, bytes]:
    """RecBole's column names differ by their types, which the statistics repeat."""
    return {name: data for name, data in files.items() if name != "statistics.json"}


@pytest.mark.parametrize("split", ["global_time", "column"])
def test_tables_equal_the_reference(tmp_path: Path, split: str) -> None:
    log = make_log(users=60, seed=5)
    log["split"] = np.where(
        log["timestamp"] % 200 < 120, "train", np.where(log["timestamp"] % 200 < 160, "val", "test")
    )
    log["title"] = "Title " + log["item_id"].astype(str)
    log = pd.concat([log, log.iloc[::9]])
    source = write(log, tmp_path / "log.parquet")
    out, statistics = _run(tmp_path, "out", interactions=source, split=split, per_user=2, rows_per_partition=100)

    ids = {item: rank for rank, item in enumerate(sorted(set(log["item_id"].astype(str))), start=1)}
    frame = pd.DataFrame(
        {
            "user": log["user_id"].astype(str),
            "item": log["item_id"].astype(str).map(ids),
            "item_id": log["item_id"].astype(str),
            "timestamp": log["timestamp"],
            "split": log["split"].map({"train": 0, "val": 1, "test": 2}),
        }
    )
    parted = split_frame(frame, split)
    wanted = reference_tables(parted, 2, 4)
    for folder, name in (
        ("sequences", "sequences"),
        *((f"samples/{part}", part) for part in ("train", "valid", "test")),
    ):
        rows = read_parts(out, folder)
        assert sorted(rows, key=_row_key) == sorted(wanted[name], key=_row_key)
        shards = [user_shard([str(row["user_id"])], 5)[0] for row in rows]
        assert shards == sorted(shards)
        assert len(out.list(folder)) == 5
    counts = [int((parted["part"] == part).sum()) for part in range(3)]
    assert list(statistics["interactions"].values()) == [len(log), len(parted), *counts]
    assert statistics["dropped"]["duplicate"] == len(log) - len(parted)
    items = out.read_table("items.parquet")
    train_counts = parted[parted["part"] == 0]["item"].value_counts()
    assert items["count"].to_pylist() == [int(train_counts.get(index, 0)) for index in range(1, len(ids) + 1)]
    assert items["item_id"].to_pylist() == sorted(ids)
    assert statistics["items"]["cold"] == items["count"].to_pylist().count(0)
    held_out = [[item for row in wanted[part] for item in row["targets"]] for part in ("valid", "test")]
    cold = [sum(item not in train_counts.index for item in items) for items in held_out]
    assert list(statistics["cold_targets"].values()) == cold


def _row_key(row: dict[str, Any]) -> tuple[str, int]:
    return str(row["user_id"]), int(row.get("position", 0))


def test_what_is_dropped_is_counted_and_shards_follow_the_data(tmp_path: Path) -> None:
    log = make_log(users=30)
    catalogue = make_catalogue(log)
    gone = catalogue["item_id"].iloc[0]
    catalogue.loc[0, "title"] = "\n"
    catalogue = pd.concat([catalogue, pd.DataFrame({"item_id": [99_999], "title": ["Never seen"]})])
    source = write(log, tmp_path / "log.csv")
    items = write(catalogue, tmp_path / "items.parquet")
    stale = Storage.at(tmp_path / "out")
    stale.write_text("samples/train/part-00099.parquet", "left by an earlier run")
    out, statistics = _run(
        tmp_path,
        "out",
        interactions=source,
        items=items,
        split="leave_one_out",
        min_rating=2,
        missing_title="drop",
        per_user=1,
        shards=None,
    )
    rated = log[log["rating"] >= 2]
    left = rated[rated["item_id"] != gone]
    assert statistics["dropped"]["rating"] == len(log) - len(rated)
    assert statistics["dropped"]["no_title"] == len(rated) - len(left)
    assert statistics["interactions"]["kept"] == len(left.drop_duplicates(["user_id", "item_id", "timestamp"]))
    assert statistics["shards"] == len(out.list("samples/train")) == 2
    assert statistics["items"]["without_title"] == 1
    assert str(gone) not in out.read_table("items.parquet")["item_id"].to_pylist()
    assert out.read_table("items.parquet").to_pylist()[-1]["title"] == "Never seen"
    assert statistics["samples"]["valid"] == statistics["samples"]["test"]
    assert out.read_json("statistics.json") == statistics


def test_shards_without_users_are_there_all_the_same(tmp_path: Path) -> None:
    log = make_log(users=4, seed=2)
    log["title"] = "T"
    source = write(log, tmp_path / "log.csv")
    out, statistics = _run(tmp_path, "out", interactions=source, split="leave_one_out", shards=9)
    assert statistics["shards"] == 9
    for folder in ("sequences", "samples/train", "samples/valid", "samples/test"):
        tables = [out.read_table(f"{folder}/{name}") for name in out.list(folder)]
        assert len(tables) == 9
        assert len({table.schema for table in tables}) == 1
        assert sum(len(table) == 0 for table in tables) >= 5


def test_what_the_values_mean_is_counted(tmp_path: Path) -> None:
    log = make_log(users=30).astype({"user_id": str, "timestamp": object})
    log["title"] = "Title " + log["item_id"].astype(str)
    expected, _ = _run(tmp_path, "plain", interactions=write(log, tmp_path / "plain.csv"))
    padded = log.copy()
    padded.loc[::2, "user_id"] = " " + padded["user_id"] + "\u00a0"
    out, statistics = _run(tmp_path, "padded", interactions=write(padded, tmp_path / "padded.csv"))
    assert _without_columns(files_of(out)) == _without_columns(files_of(expected))
    assert statistics["values"]["padded_ids"] == len(log.iloc[::2])
    assert "blanks around" in statistics["warnings"][0]

    log.loc[::5, "user_id"] = r"\N"
    log.loc[1::5, "timestamp"] = 0
    out, statistics = _run(
        tmp_path, "gaps", interactions=write(log, tmp_path / "gaps.csv"), null_values=[r"\N"], missing_id="drop"
    )
    assert statistics["dropped"]["id_missing"] == len(log.iloc[::5])
    assert statistics["interactions"]["read"] == len(log)
    dropped = cast("dict[str, int]", statistics["dropped"])
    assert statistics["interactions"]["kept"] + sum(dropped.values()) == len(log)
    assert statistics["values"]["unknown_times"] == {"0": len(log.iloc[1::5])}
