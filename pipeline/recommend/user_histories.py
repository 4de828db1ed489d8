"""The histories that recommendations start from: what users have chosen so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.sample_tables import ragged_column, train_shards
from pipeline.ingest.writer import UNTOLD
from scoring.ragged import Ragged, concatenate


@dataclass(frozen=True)
class UserHistories:
    """Whole histories of U users.

    Attributes
    ----------
    users : the ids, each once.
    items : U rows of item indices, oldest first.
    """

    users: Sequence[str]
    items: Ragged

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[np.int64]) -> UserHistories:
        """Return the users at these rows, in this order."""
        return UserHistories([self.users[row] for row in rows.tolist()], self.items.take(rows))


def joined(parts: Sequence[UserHistories]) -> UserHistories:
    """Join the users of several parts; for a user in several of them, the first part counts."""
    users = [user for part in parts for user in part.users]
    first: dict[str, int] = {}
    for row, user in enumerate(users):
        first.setdefault(user, row)
    rows = np.fromiter(first.values(), np.int64, len(first))
    return UserHistories(list(first), concatenate([part.items for part in parts]).take(rows))


def log_histories(data: Storage, wanted: frozenset[str] | None = None) -> UserHistories:
    """Read the whole histories that a run keeps of its users: train, validation and test interactions.

    Runs of an earlier version keep no history of users who came with the validation or the test period.

    Parameters
    ----------
    data : the folder of the stage ingest.
    wanted : the users to read; None is all.
    """
    parts = []
    for index in train_shards(data):
        shard = _shard_histories(data, index)
        if wanted is not None:
            rows = [row for row, user in enumerate(shard.users) if user in wanted]
            shard = shard.take(np.array(rows, dtype=np.int64))
        parts.append(shard)
    return joined(parts)


def _shard_histories(data: Storage, index: int) -> UserHistories:
    """Read the users of one shard, ascending by id, each with the longest history in any of the shard's files."""
    name = f"{shard_name(index)}.parquet"
    parts = [_held_out(data.read_table(f"samples/{part}/{name}", _COLUMNS)) for part in ("test", "valid")]
    train = data.read_table(f"sequences/{name}", ["user_id", "items"])
    parts.append(UserHistories(_users(train), ragged_column(train, "items")))
    if data.exists(f"{UNTOLD}/{name}"):
        untold = data.read_table(f"{UNTOLD}/{name}")
        parts.append(UserHistories(_users(untold), ragged_column(untold, "items")))
    found = joined(parts)
    return found.take(np.array(sorted(range(len(found)), key=lambda row: found.users[row]), dtype=np.int64))


_COLUMNS = ["user_id", "seen", "targets"]


def _held_out(table: pa.Table) -> UserHistories:
    """Return the histories of a table of held-out targets: the seen items, then the targets."""
    return UserHistories(_users(table), appended(ragged_column(table, "seen"), ragged_column(table, "targets")))


def _users(table: pa.Table) -> list[str]:
    ids: list[str] = table["user_id"].cast(pa.string()).to_pylist()
    return ids


def appended(first: Ragged, second: Ragged) -> Ragged:
    """Return the rows of `first`, each followed by the same row of `second`."""
    count = len(first)
    both = concatenate([first, second]).take(np.arange(2 * count).reshape(2, count).T.ravel())
    return Ragged(both.values, both.offsets[::2])
