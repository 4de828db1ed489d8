"""What a selector reads of each sample, a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scoring.ragged import Ragged

#: The scores and features that a selector may ask for.
SCORES = ("influence", "effort", "el2n", "grand")
FEATURES = ("target", "history", "user", "timestamp", "embedding")


@dataclass(frozen=True)
class ScoreShard:
    """The scores of one shard, four columns of one length N, and what else the selector declares that it needs.

    Attributes
    ----------
    sample_id : int64, unique over all shards.
    influence, effort : float32.
    ok : bool, whether the sample may be chosen.
    columns : further scores by name, float32 [N] each ("el2n", "grand").
    target : int32 [N], the item index that follows the history.
    history : N rows of item indices, oldest first.
    user : int64 [N], the key of the user (`scoring.ids.user_keys`).
    timestamp : float64 [N], of the target; None also where the log has no times.
    embedding : float32 [N, d], the surrogate's view of history and target (`scoring.difficulty.pair_embeddings`).
    weight : int64 [N], 1 or more: how many samples of the log each stands for, in units of one thousandth, where the
        usable ones are an uneven draw from it; None where they are not.
    """

    sample_id: npt.NDArray[np.int64]
    influence: npt.NDArray[np.float32]
    effort: npt.NDArray[np.float32]
    ok: npt.NDArray[np.bool_]
    columns: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    target: npt.NDArray[np.int32] | None = None
    history: Ragged | None = None
    user: npt.NDArray[np.int64] | None = None
    timestamp: npt.NDArray[np.float64] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    weight: npt.NDArray[np.int64] | None = None

    def score(self, name: str) -> npt.NDArray[np.float32]:
        """Return the score of a name, float32 [N]."""
        if name == "influence":
            return self.influence
        return self.effort if name == "effort" else self.columns[name]

    def take(self, rows: npt.NDArray[np.int64]) -> ScoreShard:
        """Return the rows asked for, in the order asked."""
        return ScoreShard(
            self.sample_id[rows],
            self.influence[rows],
            self.effort[rows],
            self.ok[rows],
            {name: column[rows] for name, column in self.columns.items()},
            None if self.target is None else self.target[rows],
            None if self.history is None else self.history.take(rows),
            None if self.user is None else self.user[rows],
            None if self.timestamp is None else self.timestamp[rows],
            None if self.embedding is None else self.embedding[rows],
            None if self.weight is None else self.weight[rows],
        )


Shards = Callable[[], Iterator[ScoreShard]]
"""Begins a pass over all shards. Selectors make several, and hold one shard at a time."""
