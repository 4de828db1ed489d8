"""The interactions of each user in their one total order, without duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class OrderedLog:
    """The log of some users: user u has the interactions `offsets[u]:offsets[u + 1]`, first to last.

    Attributes
    ----------
    users : string [U], ascending.
    offsets : int64 [U + 1].
    items : int32 [n] item indices.
    timestamps : float64 [n], or None when unknown.
    splits : int8 [n], the split that the log gives (0 train, 1 valid, 2 test), or None when it gives none.
    rows : int64 [n], the row of the input table that each interaction came from.
    users_out_of_order : users whose given split goes back in time somewhere.
    """

    users: pa.Array
    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    timestamps: npt.NDArray[np.float64] | None
    splits: npt.NDArray[np.int8] | None
    rows: npt.NDArray[np.int64]
    users_out_of_order: int

    @property
    def user_of_row(self) -> npt.NDArray[np.int64]:
        """int64 [n], which user each interaction belongs to."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))


def order_log(table: pa.Table) -> OrderedLog:
    """Sort interactions by user, timestamp, position and item; keep one of exact duplicates.

    The item index follows the id as text, so it breaks ties as the id would. Duplicates agree in user, item,
    timestamp and position; of those in several splits the earliest split stays. A given split comes before
    time in the order, so that a user's train interactions precede what is held out even where the log
    contradicts itself; such users are counted.

    Parameters
    ----------
    table : user string, item int32, and those of timestamp, position (float64), split (int8) that are known.
    """
    users, user = _ranked(table["user"])
    item = table["item"].to_numpy()
    timestamp, position = _numpy(table, "timestamp"), _numpy(table, "position")
    split = table["split"].to_numpy() if "split" in table.column_names else None
    keys = [key for key in (user, timestamp, position, item) if key is not None]
    finest_last = [*keys, split] if split is not None else keys
    order = np.lexsort(finest_last[::-1])
    repeated = np.ones(len(order), dtype=bool)
    repeated[:1] = False
    for key in keys:
        repeated[1:] &= key[order[1:]] == key[order[:-1]]
    order = order[~repeated]
    out_of_order = 0
    if split is not None:
        backwards = (np.diff(split[order]) < 0) & (np.diff(user[order]) == 0)
        out_of_order = len(np.unique(user[order[1:]][backwards]))
        order = order[np.lexsort((split[order], user[order]))]
    offsets = np.zeros(len(users) + 1, dtype=np.int64)
    np.cumsum(np.bincount(user[order], minlength=len(users)), out=offsets[1:])
    return OrderedLog(
        users=users,
        offsets=offsets,
        items=item[order],
        timestamps=None if timestamp is None else timestamp[order],
        splits=None if split is None else split[order],
        rows=order,
        users_out_of_order=out_of_order,
    )


def _ranked(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The distinct values in ascending order, and the rank of each row's value among them."""
    encoded = column.combine_chunks().dictionary_encode()
    ascending = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(ascending), dtype=np.int64)
    rank[ascending.to_numpy()] = np.arange(len(ascending))
    return encoded.dictionary.take(ascending), rank[encoded.indices.to_numpy()]


def _numpy(table: pa.Table, name: str) -> npt.NDArray[np.float64] | None:
    return table[name].to_numpy() if name in table.column_names else None
