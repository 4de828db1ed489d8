"""SIGKILL of a recommendation with its workers and Ray; the same command then ends as if undisturbed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.shards import attempts_at, finished_shards
from cluster.storage import Storage
from pipeline.recommend.recommend_run import MARK
from tests.killing import go_on, kill_when
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

#: 60 users in chunks of 16.
CHUNKS = list(range(4))


def test_killed_while_recommending(small_run: SmallRun, tmp_path: Path) -> None:
    run = small_run.begin(tmp_path / "run", "data", "coreset", "surrogate", "model", "embeddings")
    command = ["recommend", str(small_run.config), "--run-dir", str(run), "--users", "all", "--k", "5"]
    out = Storage.at(tmp_path / "lists")
    chunks = out.child("_chunks")

    def reached() -> bool:
        done = finished_shards(chunks, CHUNKS)
        return 1 <= len(done) < len(CHUNKS) and bool(set(attempts_at(chunks, CHUNKS)) - set(done))

    kill_when([*command, "--out", out.uri], reached)
    assert out.read_json(MARK)["complete"] is False
    assert not out.exists("recommendations.parquet")
    kept = finished_shards(chunks, CHUNKS)
    marked: set[str] = set()
    for index in kept:
        # A chunk that is computed again would lose this mark.
        name = f"part-{index:05d}.parquet"
        table = chunks.read_table(name)
        marked |= set(table["user_id"].to_pylist())
        chunks.write_table(name, table.set_column(3, "title", pa.array(["kept"] * len(table))))
    go_on([*command, "--out", out.uri])
    go_on([*command, "--out", str(tmp_path / "whole")])

    whole = Storage.at(tmp_path / "whole")
    assert out.list() == whole.list() == [MARK, "recommendations.parquet"]
    assert out.read_json(MARK) == whole.read_json(MARK)
    found, expected = (folder.read_table("recommendations.parquet").to_pylist() for folder in (out, whole))
    assert found == [{**row, "title": "kept"} if row["user_id"] in marked else row for row in expected]
    assert 0 < len(marked) < 60
