"""Convert between the run directory's Arrow tables and the arrays that scoring works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.shards import shard_name
from cluster.storage import Storage
from scoring.ids import user_keys
from scoring.ragged import Ragged
from training.loops.array_columns import to_ragged

SCORE_STATUSES = ("ok", "nonfinite", "failed", "skipped")
TRAIN_SAMPLES = "samples/train"


@dataclass(frozen=True)
class SampleShard:
    """The samples of one shard, in the order of its file.

    Attributes
    ----------
    sample_id : the ids, int64 [N].
    history : N rows of items, oldest first.
    target : the target items, int32 [N].
    """

    sample_id: npt.NDArray[np.int64]
    history: Ragged
    target: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sample_id)

    def take(self, rows: npt.NDArray[np.int64]) -> SampleShard:
        return SampleShard(self.sample_id[rows], self.history.take(rows), self.target[rows])


def ragged_column(table: pa.Table, name: str) -> Ragged:
    """Return a list column as rows in two flat arrays."""
    return to_ragged(table.column(name))


def list_array(rows: Ragged) -> pa.Array:
    """Return ragged rows as an Arrow list<int32> array."""
    return pa.ListArray.from_arrays(pa.array(rows.offsets, pa.int32()), pa.array(rows.values, pa.int32()))


def read_samples(data: Storage, index: int) -> SampleShard:
    """Read shard `index` of the train samples."""
    name = f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet"
    table = data.read_table(name, ["sample_id", "history", "target"])
    return SampleShard(
        table.column("sample_id").to_numpy(),
        ragged_column(table, "history"),
        table.column("target").to_numpy(),
    )


def read_user_keys(data: Storage, index: int) -> npt.NDArray[np.int64]:
    """Read the key of each sample's user in train shard `index`, int64 [N]."""
    return user_key_column(data.read_table(f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", ["user_id"]))


def user_key_column(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the column `user_id` as keys, int64 [N]; each user is hashed once."""
    users = table.column("user_id").combine_chunks().dictionary_encode()
    keys: npt.NDArray[np.int64] = user_keys(users.dictionary.to_pylist())[users.indices.to_numpy()]
    return keys


def train_shards(data: Storage) -> list[int]:
    """Return the numbers of the train shards."""
    return list(range(len(data.list(TRAIN_SAMPLES, suffix=".parquet"))))


def read_titles(data: Storage) -> list[str]:
    """Return titles by item index; the first, of the padding, is empty."""
    return ["", *data.read_table("items.parquet", ["title"]).column("title").to_pylist()]


def score_table(
    sample_id: npt.NDArray[np.int64],
    name: str,
    scores: npt.NDArray[np.float32],
    skipped: npt.NDArray[np.bool_],
) -> pa.Table:
    """Build a score file: sample_id, the score, and whether it may be used.

    Skipped rows hold NaN. A score that is not finite is kept as it is and marked.
    """
    status = np.where(skipped, "skipped", np.where(np.isfinite(scores), "ok", "nonfinite"))
    return pa.table(
        {
            "sample_id": pa.array(sample_id, pa.int64()),
            name: pa.array(scores, pa.float32(), from_pandas=False),
            "status": pa.array(status.tolist(), pa.string()),
        }
    )
