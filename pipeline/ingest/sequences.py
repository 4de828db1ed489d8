"""Put each user's interactions into one total order, without duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoring.ids import event_keys, user_keys


@dataclass(frozen=True)
class OrderedLog:
    """The log of some users: user u has the interactions `offsets[u]:offsets[u + 1]`, first to last.

    Attributes
    ----------
    users : the ids, string [U], ascending.
    offsets : where each user's interactions begin and end, int64 [U + 1].
    items : item indices, int32 [n].
    timestamps : float64 [n]; None if unknown.
    splits : the split that the log gives, int8 [n] (0 train, 1 valid, 2 test); None if it gives none.
    tied : whether time and position equal those of the user's interaction before, so that the log does not say which
        of the two came first; bool [n].
    rows : the row of the input table that each interaction came from, int64 [n].
    users_out_of_order : the number of users whose given split goes back in time somewhere.
    """

    users: pa.Array
    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    timestamps: npt.NDArray[np.float64] | None
    splits: npt.NDArray[np.int8] | None
    tied: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    users_out_of_order: int

    @property
    def user_of_row(self) -> npt.NDArray[np.int64]:
        """The user that each interaction belongs to, int64 [n]."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))


def order_log(table: pa.Table, item_keys: npt.NDArray[np.uint64]) -> OrderedLog:
    """Sort interactions by user, timestamp and position; break ties by a keyed hash; keep one of exact duplicates.

    The hash is that of (user, item, timestamp). Files and cluster therefore do not change the order, and the order
    among ties says nothing about the items. An order by item id would be a pattern that models learn and metrics
    reward. Duplicates agree in user, item, timestamp and position; if they are in several splits, the earliest split
    stays. A given split takes precedence over time, so that a user's train interactions precede what is held out even
    if the log contradicts itself; such users are counted.

    Parameters
    ----------
    table : user string, item int32, and those of timestamp, position (float64), split (int8) that are known.
    item_keys : uint64 [V + 1], by item index, as `scoring.ids.item_keys` hashes the ids.
    """
    users, user = _ranked(table["user"])
    item = table["item"].to_numpy()
    timestamp, position = _numpy(table, "timestamp"), _numpy(table, "position")
    split = table["split"].to_numpy() if "split" in table.column_names else None
    when = [key for key in (user, timestamp, position) if key is not None]
    order = np.lexsort(when[::-1])
    same_time = _same_as_before(when, order)
    tied = same_time.copy()
    tied[:-1] |= same_time[1:]
    if tied.any():
        rows = order[tied]
        ties = _TiedRows(
            np.cumsum(~same_time, dtype=np.int64)[tied], item[rows], None if split is None else split[rows]
        )
        keys = _tie_keys(users, user[rows], item_keys[ties.item], None if timestamp is None else timestamp[rows])
        by_hash, repeated = ties.ordered(keys)
        order[tied] = rows[by_hash]
        kept = np.ones(len(order), dtype=bool)
        kept[tied] = ~repeated
        order = order[kept]
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
        tied=_same_as_before(when, order),
        rows=order,
        users_out_of_order=out_of_order,
    )


@dataclass(frozen=True)
class _TiedRows:
    """Rows that share user, timestamp and position with another row.

    Attributes
    ----------
    group : int64 [n], ascending; equal for rows that are tied with one another.
    """

    group: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    split: npt.NDArray[np.int8] | None

    def ordered(self, keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Sort the rows by hash within their groups, int64 [n], and mark those that repeat the row before."""
        # Equal items have equal hashes. The item breaks ties between equal hashes of different items.
        by: list[npt.NDArray] = [self.group, keys, self.item]
        order = np.lexsort([*by, self.split][::-1] if self.split is not None else by[::-1])
        return order, _same_as_before([self.group, self.item], order)


def _tie_keys(
    users: pa.Array,
    user: npt.NDArray[np.int64],
    item_key: npt.NDArray[np.uint64],
    timestamp: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.uint64]:
    """Return the hash of (user, item, timestamp) of each row; only users that have a tie are hashed."""
    tied_users, of_row = np.unique(user, return_inverse=True)
    keys = user_keys(users.take(pa.array(tied_users)).to_pylist())
    return event_keys(keys[of_row], item_key, timestamp)


def _same_as_before(keys: list[npt.NDArray], order: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return bool [n]: whether an ordered row has the same keys as the row before it."""
    same = np.ones(len(order), dtype=bool)
    same[:1] = False
    for key in keys:
        ordered = key[order]
        same[1:] &= ordered[1:] == ordered[:-1]
    return same


def _ranked(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Return the distinct values in ascending order, and the rank of each row's value among them."""
    encoded = column.combine_chunks().dictionary_encode()
    ascending = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(ascending), dtype=np.int64)
    rank[ascending.to_numpy()] = np.arange(len(ascending))
    return encoded.dictionary.take(ascending), rank[encoded.indices.to_numpy()]


def _numpy(table: pa.Table, name: str) -> npt.NDArray[np.float64] | None:
    return table[name].to_numpy() if name in table.column_names else None
