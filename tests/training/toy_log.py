"""A run's data folder with a log that a surrogate can learn: each user walks along a ring of items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.storage import Storage

ITEMS = 30
LIST = pa.list_(pa.int32())


def write_toy_log(root: Path, users: int = 80, parts: int = 3, seed: int = 0) -> Storage:
    """The last item of each user is a validation target, the one before it too for every third user."""
    data = Storage.at(root)
    generator = np.random.default_rng(seed)
    starts, lengths = generator.integers(1, ITEMS + 1, users), generator.integers(4, 20, users)
    walks = [[(s + k - 1) % ITEMS + 1 for k in range(n)] for s, n in zip(starts, lengths, strict=True)]
    held_out = [2 if user % 3 == 0 else 1 for user in range(users)]
    for part in range(parts):
        own = range(part, users, parts)
        train = [walks[user][: -held_out[user]] for user in own]
        names = [f"u{user}" for user in own]
        data.write_table(
            f"sequences/part-{part:05d}.parquet",
            pa.table({"user_id": names, "items": pa.array(train, LIST)}),
        )
        valid = {
            "sample_id": pa.array([7919 * user for user in own], pa.int64()),
            "user_id": names,
            "history": pa.array([items[-8:] for items in train], LIST),
            "targets": pa.array([walks[user][-held_out[user] :] for user in own], LIST),
            "seen": pa.array(train, LIST),
        }
        data.write_table(f"samples/valid/part-{part:05d}.parquet", pa.table(valid))
    counts = np.bincount(np.concatenate(walks), minlength=ITEMS + 1)[1:]
    items = {
        "item_index": pa.array(range(1, ITEMS + 1), pa.int32()),
        "item_id": [str(item) for item in range(ITEMS)],
        "title": [f"Title {item}" for item in range(ITEMS)],
        "count": pa.array(counts, pa.int64()),
    }
    data.write_table("items.parquet", pa.table(items))
    return data
