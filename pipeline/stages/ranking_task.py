"""What every model is asked in stage evaluate, and the form of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.sample_tables import list_array, ragged_column
from scoring.ragged import Ragged
from training.ranking.ranking_metrics import rank_targets

PREDICTIONS = pa.schema(
    [
        ("model", pa.string()),
        ("sample_id", pa.int64()),
        ("user_id", pa.string()),
        ("generated", pa.string()),
        ("grounded", pa.int32()),
        ("targets", pa.list_(pa.int32())),
        ("ranks", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Users:
    """A chunk of test users, and their lists; `seen` is None where nothing is masked."""

    table: pa.Table
    history: Ragged
    targets: Ragged
    seen: Ragged | None

    def __len__(self) -> int:
        return self.table.num_rows

    def predictions(
        self, model: str, generated: Sequence[str | None], grounded: npt.NDArray[np.int64], ranks: Ragged
    ) -> pa.Table:
        """The rows of `predictions.parquet` for this chunk: `grounded` [U] is the item that comes first."""
        columns = [
            pa.array([model] * len(self), pa.string()),
            self.table.column("sample_id"),
            self.table.column("user_id").cast(pa.string()),
            pa.array(list(generated), pa.string()),
            pa.array(grounded, pa.int32()),
            list_array(self.targets),
            list_array(ranks),
        ]
        return pa.Table.from_arrays(columns, schema=PREDICTIONS)

    def scored(self, model: str, scores: npt.NDArray[np.float32], groups: npt.NDArray[np.int64]) -> pa.Table:
        """Predictions of a model that scores every item: `scores` is [U, n], `groups` [n] as in `rank_targets`."""
        ranks = rank_targets(scores, self.targets, self.seen, groups)
        return self.predictions(model, [None] * len(self), self.best(scores), ranks)

    def best(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """int64 [U], the item with the highest score among those that are not masked."""
        candidate = scores.copy()
        if self.seen is not None:
            candidate[self.seen.row_of_value(), self.seen.values - 1] = -np.inf
        return candidate.argmax(axis=1) + 1


@dataclass(frozen=True)
class Question:
    """All-ranking for chunks of users.

    Attributes
    ----------
    folder : holds the chunks, `_users/part-k.parquet`.
    titles : by item, from item 1.
    mask_seen : whether items that a user has seen are no candidates.
    """

    folder: Storage
    titles: Sequence[str]
    mask_seen: bool

    def users(self, index: int) -> Users:
        table = self.folder.read_table(f"_users/part-{index:05d}.parquet")
        seen = ragged_column(table, "seen") if self.mask_seen else None
        return Users(table, ragged_column(table, "history"), ragged_column(table, "targets"), seen)


class Ranker(Protocol):
    """Anything that answers the question."""

    def rank(self, users: Users) -> pa.Table:
        """Rows of `PREDICTIONS`, one a user."""
