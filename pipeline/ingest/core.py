"""The k-core of a log: what is left when users and items with few interactions go, until none is left that has few."""

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
    """The largest part of a log in which every user and every item has its least number of interactions.

    Attributes
    ----------
    items : bool [V + 1] by item index, whether the item stays.
    counts : int64 [V + 1] interactions of each item within the core.
    least : the numbers it was made for.
    rounds : passes over the log that it took.
    """

    items: _Bools
    counts: _Counts
    least: MinInteractionsConfig
    rounds: int

    @property
    def interactions(self) -> int:
        """Interactions within the core."""
        return int(self.counts.sum())

    def vocabulary(self, whole: Vocabulary) -> Vocabulary:
        """The items that stay, numbered from 1; with a least number for items, those outside the log go as well."""
        kept = pa.array(np.flatnonzero(self.items[1:]))
        return replace(
            whole,
            item_ids=whole.item_ids.take(kept),
            titles=whole.titles.take(kept),
            in_log=int(np.count_nonzero(self.counts)),
            below_least=len(whole) - len(kept),
        )

    def of(self, grouped: ray.data.Dataset) -> ray.data.Dataset:
        """The interactions of the core, with the item indices of its vocabulary."""
        renumbered = np.where(self.items, np.cumsum(self.items), 0).astype(np.int32)
        arguments = {"items": ray.put(self.items), "renumbered": ray.put(renumbered), "least_user": self.least.user}
        return map_blocks(grouped, keep_core, **arguments).materialize()


def find_core(grouped: ray.data.Dataset, items: int, least: MinInteractionsConfig) -> Core:
    """The core of a log, by passes over it until no more items go.

    Which users stay follows from the items that stay, so nothing is remembered about users between passes.

    Parameters
    ----------
    grouped : without duplicates; every user whole within one block.
    items : V, the size of the vocabulary.
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
    """One row: the items of a block's remaining interactions, and how many each has."""
    alive = ray.get(items)
    item = block["item"].to_numpy()
    indices, counts = np.unique(item[_remaining(block, alive, least_user)], return_counts=True)
    integers = pa.list_(pa.int64())
    return pa.table({"items": pa.array([indices], integers), "counts": pa.array([counts], integers)})


def keep_core(block: pa.Table, items: ray.ObjectRef, renumbered: ray.ObjectRef, least_user: int) -> pa.Table:
    """A block's interactions of the core, with new item indices."""
    kept = block.filter(pa.array(_remaining(block, ray.get(items), least_user)))
    indices = pa.array(ray.get(renumbered)[kept["item"].to_numpy()], pa.int32())
    return kept.set_column(kept.schema.get_field_index("item"), "item", indices)


def _remaining(block: pa.Table, alive: _Bools, least_user: int) -> _Bools:
    """bool [n]: interactions of items that stay, by users who have enough of them."""
    users = block["user"].combine_chunks().dictionary_encode()
    user = users.indices.to_numpy()
    remaining = alive[block["item"].to_numpy()]
    enough = np.bincount(user[remaining], minlength=len(users.dictionary)) >= least_user
    return remaining & enough[user]
