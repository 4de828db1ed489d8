"""The k-core of a log: drop users and items with few interactions, repeatedly, until none is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from pipeline.engine.config import MinInteractionsConfig
from pipeline.ingest.shuffle import map_blocks, passed
from pipeline.ingest.vocabulary import Vocabulary

_Bools = npt.NDArray[np.bool_]
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Core:
    """The largest part of a log in which every user and every item has the required number of interactions.

    Attributes
    ----------
    items : whether each item stays, bool [V + 1] by item index.
    counts : interactions of each item in the core, int64 [V + 1].
    least : the minimum numbers of interactions that were asked for.
    rounds : the number of passes over the log.
    """

    items: _Bools
    counts: _Counts
    least: MinInteractionsConfig
    rounds: int

    @property
    def interactions(self) -> int:
        """The number of interactions in the core."""
        return int(self.counts.sum())

    def vocabulary(self, whole: Vocabulary) -> Vocabulary:
        """Return the items that stay, numbered from 1.

        With a minimum for items, those that are not in the log go as well.
        """
        kept = pa.array(np.flatnonzero(self.items[1:]))
        return replace(
            whole,
            item_ids=whole.item_ids.take(kept),
            titles=whole.titles.take(kept),
            in_log=int(np.count_nonzero(self.counts)),
            below_least=len(whole) - len(kept),
        )

    def of(self, grouped: ray.data.Dataset) -> ray.data.Dataset:
        """Return the interactions of the core, with the item indices of its vocabulary."""
        renumbered = np.where(self.items, np.cumsum(self.items), 0).astype(np.int32)
        arguments = {"items": ray.put(self.items), "renumbered": ray.put(renumbered), "least_user": self.least.user}
        return map_blocks(grouped, keep_core, **arguments).materialize()


def find_core(grouped: ray.data.Dataset, items: int, least: MinInteractionsConfig) -> Core:
    """Compute the core of a log by repeated passes, until no more items are dropped.

    The items that stay determine the users that stay, so nothing is remembered about users between passes.

    Parameters
    ----------
    grouped : the log without duplicates; every user is whole within one block.
    items : the size of the vocabulary, V.
    """
    alive = np.ones(items + 1, dtype=bool)
    alive[0] = False
    rounds = 0
    while True:
        rounds += 1
        counts = np.zeros(items + 1, dtype=np.int64)
        for rows in passed(grouped, count_core, items=ray.put(alive), least_user=least.user):
            for index, count in zip(rows["items"], rows["counts"], strict=True):
                counts[index.values.to_numpy()] += count.values.to_numpy()
        left = alive & (counts >= least.item) if least.item > 1 else alive
        if np.array_equal(left, alive):
            return Core(alive, counts, least, rounds)
        alive = left


def count_core(block: pa.Table, items: ray.ObjectRef, least_user: int) -> pa.Table:
    """Return one row: the items of the block's remaining interactions, and the count of each."""
    alive = ray.get(items)
    item = block["item"].to_numpy()
    indices, counts = np.unique(item[_remaining(block, alive, least_user)], return_counts=True)
    integers = pa.list_(pa.int64())
    return pa.table({"items": pa.array([indices], integers), "counts": pa.array([counts], integers)})


def keep_core(block: pa.Table, items: ray.ObjectRef, renumbered: ray.ObjectRef, least_user: int) -> pa.Table:
    """Return the block's interactions that belong to the core, with new item indices."""
    kept = block.filter(pa.array(_remaining(block, ray.get(items), least_user)))
    indices = pa.array(ray.get(renumbered)[kept["item"].to_numpy()], pa.int32())
    return kept.set_column(kept.schema.get_field_index("item"), "item", indices)


def _remaining(block: pa.Table, alive: _Bools, least_user: int) -> _Bools:
    """Return bool [n]: whether an interaction's item stays and its user has enough such interactions."""
    users = block["user"].combine_chunks().dictionary_encode()
    user = users.indices.to_numpy()
    remaining = alive[block["item"].to_numpy()]
    enough = np.bincount(user[remaining], minlength=len(users.dictionary)) >= least_user
    return remaining & enough[user]
