"""A request to stop, as the workers of a pass see it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster import sharded_map
from cluster.shards import attempts_at, begin_shard
from cluster.storage import Storage

TABLE = pa.table({"x": [1]})


class Worker:
    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        return TABLE, {}


@pytest.mark.parametrize("attempts_before", [0, 2])
def test_a_shard_begun_as_the_request_came_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts_before: int
) -> None:
    """The driver may have looked for shards in hand before this one was started, and would not wait for it."""
    out = Storage.at(tmp_path)
    for _ in range(attempts_before):
        begin_shard(out, 4)
    before = attempts_at(out, [4])

    def begun_as_the_request_comes(storage: Storage, index: int) -> int:
        out.write_bytes("_stop/a", b"")
        return begin_shard(storage, index)

    monkeypatch.setattr(sharded_map, "begin_shard", begun_as_the_request_comes)
    monkeypatch.setattr(sharded_map, "_actor_id", lambda: "a")
    answer = sharded_map._ShardActor(Worker, {}, out, "_stop/a", {})({"index": pa.array([4]).to_numpy()})

    assert [json.loads(text) for text in answer["record"]] == [{"stopped": 4}]
    assert attempts_at(out, [4]) == before
