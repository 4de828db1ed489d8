"""The data folder of a run, written as ingest writes it, without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from cluster.storage import Storage
from pipeline.ingest.samples import SampleRules
from pipeline.ingest.writer import ShardWriter
from scoring.ids import item_keys

ITEMS = [f"i{number}" for number in range(1, 8)]
#: What each user chose, oldest first, by item index, and in which part of the split.
CHOSEN: Mapping[str, tuple[Sequence[int], Sequence[int]]] = {
    "ada": ([1, 2, 3, 4, 5], [0, 0, 0, 1, 2]),
    "bob": ([3, 1], [0, 0]),
    "cem": ([2, 2, 6], [0, 1, 1]),
    "dan": ([7], [0]),
    "eve": ([4, 5], [1, 2]),
    "fay": ([6, 1], [2, 2]),
}


def write_data(run: Storage) -> Storage:
    """Write `data` of a run over the log above in two shards; return that folder."""
    data = run.child("data")
    writer = ShardWriter(data, "column", SampleRules("all", 3, True), None)
    for shard, users in enumerate((["ada", "cem", "eve"], ["bob", "dan", "fay"])):
        rows = [
            (user, item, float(time), part)
            for user in users
            for time, (item, part) in enumerate(zip(*CHOSEN[user], strict=True))
        ]
        user_id, item, time, part = zip(*rows, strict=True)
        table = {
            "user": pa.array(user_id),
            "item": pa.array(item, pa.int32()),
            "timestamp": pa.array(time, pa.float64()),
            "split": pa.array(part, pa.int8()),
        }
        writer.write_shard(shard, pa.table(table), item_keys(ITEMS))
    train = [item for items, parts in CHOSEN.values() for item, part in zip(items, parts, strict=True) if part == 0]
    counts = np.bincount(train, minlength=len(ITEMS) + 1)[1:]
    titles = [f"Title {item}" for item in ITEMS]
    data.write_table("items.parquet", pa.table({"item_id": ITEMS, "title": titles, "count": counts}))
    data.write_json("statistics.json", {"users": len(CHOSEN)})
    return data
