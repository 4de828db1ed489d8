from pathlib import Path

import pyarrow as pa

from cluster.shards import begin_shard, finish_shard, finished_shards, shard_name
from cluster.storage import Storage

TABLE = pa.table({"x": pa.array([1, 2, 3], pa.int64())})


def test_a_shard_counts_only_when_marked(tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    out.write_table("part-00000.parquet", TABLE)
    assert finished_shards(out, [0]) == {}
    record = finish_shard(out, 0, TABLE, begin_shard(out, 0), {"sum": 6})
    assert finished_shards(out, [0]) == {0: record}
    assert record.rows == 3
    assert record.facts == {"sum": 6}


def test_a_marker_without_its_file_does_not_count(tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    finish_shard(out, 0, TABLE, begin_shard(out, 0), {})
    out.delete(f"{shard_name(0)}.parquet")
    assert finished_shards(out, [0]) == {}


def test_every_beginning_is_an_attempt(tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    assert begin_shard(out, 4) == 1
    assert begin_shard(out, 4) == 2
    assert begin_shard(out, 5) == 1


def test_shards_of_another_pass_are_left_out(tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    for index in (0, 7):
        finish_shard(out, index, TABLE, begin_shard(out, index), {})
    assert set(finished_shards(out, [0, 1])) == {0}
