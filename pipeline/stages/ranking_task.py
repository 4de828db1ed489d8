"""The task that every model of stage evaluate is given, and the form of its answer."""

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
from training.ranking.top_items import top_items

#: A list of an evaluation has at least this many items if that many are candidates.
LEAST_LISTED = 10
PREDICTIONS = pa.schema(
    [
        ("model", pa.string()),
        ("sample_id", pa.int64()),
        ("user_id", pa.string()),
        ("generated", pa.string()),
        ("grounded", pa.int32()),
        ("targets", pa.list_(pa.int32())),
        ("ranks", pa.list_(pa.int32())),
        ("items", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Answer:
    """A model's answer for U users.

    Attributes
    ----------
    scores : float32 [U, n], higher is better, column j for item j + 1.
    generated : the best text for each user; None for a model that generates none.
    """

    scores: npt.NDArray[np.float32]
    generated: Sequence[str] | None = None


@dataclass(frozen=True)
class Users:
    """A chunk of test users with their histories, targets and seen items; `seen` is None if nothing is masked."""

    table: pa.Table
    history: Ragged
    targets: Ragged
    seen: Ragged | None

    def __len__(self) -> int:
        return self.table.num_rows

    def predictions(
        self, model: str, answer: Answer, groups: npt.NDArray[np.int64], listed: int = LEAST_LISTED
    ) -> pa.Table:
        """Return the rows of `predictions.parquet` for this chunk.

        Parameters
        ----------
        groups : [n], equal for items that share a title, as in `rank_targets`.
        listed : the number of items to keep of each user's ranking; the first of them is `grounded`.
        """
        ranks = rank_targets(answer.scores, self.targets, self.seen, groups)
        top = top_items(answer.scores, listed, self.seen, groups=groups)
        items = list_array(top.items)
        columns = [
            pa.array([model] * len(self), pa.string()),
            self.table.column("sample_id"),
            self.table.column("user_id").cast(pa.string()),
            pa.nulls(len(self), pa.string()) if answer.generated is None else pa.array(answer.generated, pa.string()),
            # Null for a user who has seen the whole catalogue.
            pa.array([row[0].as_py() if len(row) else None for row in items], pa.int32()),
            list_array(self.targets),
            list_array(ranks),
            items,
            pa.ListArray.from_arrays(items.offsets, pa.array(top.scores, pa.float32())),
        ]
        return pa.Table.from_arrays(columns, schema=PREDICTIONS)

    def best(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the item with the highest score among those that are not masked, int64 [U]."""
        candidate = scores.copy()
        if self.seen is not None:
            candidate[self.seen.row_of_value(), self.seen.values - 1] = -np.inf
        return candidate.argmax(axis=1) + 1


@dataclass(frozen=True)
class Question:
    """All-ranking for chunks of users.

    Attributes
    ----------
    folder : the folder of the chunks, `_users/part-k.parquet`.
    titles : the titles of the items, from item 1.
    mask_seen : whether a user's seen items are excluded from the candidates.
    listed : the number of items to keep of each user's ranking.
    """

    folder: Storage
    titles: Sequence[str]
    mask_seen: bool
    listed: int = LEAST_LISTED

    def users(self, index: int) -> Users:
        table = self.folder.read_table(f"_users/part-{index:05d}.parquet")
        seen = ragged_column(table, "seen") if self.mask_seen else None
        return Users(table, ragged_column(table, "history"), ragged_column(table, "targets"), seen)


class Ranker(Protocol):
    """A model that scores the whole catalogue for users. `label` is its name in tables."""

    @property
    def label(self) -> str: ...

    def answer(self, users: Users) -> Answer:
        """Score every item for each user."""
