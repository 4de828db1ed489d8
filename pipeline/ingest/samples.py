"""Build the sequences and samples of one shard from its ordered log, without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ingest.sequences import OrderedLog
from pipeline.ingest.splits import TEST, TRAIN, VALID
from scoring.ids import sample_ids

_LIST = pa.list_(pa.int32())
_IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SampleRules:
    """How an ordered log becomes samples.

    Attributes
    ----------
    per_user : the number of each user's last train targets that become samples, or "all".
    max_history : the number of history items that a sample keeps.
    whole_timestamps : whether timestamps are written as int64 rather than float64.
    """

    per_user: Literal["all"] | int
    max_history: int
    whole_timestamps: bool


@dataclass(frozen=True)
class ShardTables:
    """The tables of a shard, with counts of what was left out of them.

    Attributes
    ----------
    sequences, train, valid, test : the tables as the run directory holds them.
    empty_histories : the number of users without a train, valid and test sample, because nothing precedes their target.
    held_out : the targets of valid and of test, as int32 item indices.
    untold : user_id and items of the users whose history no other table tells: those who came with the validation or
        the test period. No stage reads them; recommendations do.
    """

    sequences: pa.Table
    train: pa.Table
    valid: pa.Table
    test: pa.Table
    empty_histories: tuple[int, int, int]
    held_out: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
    untold: pa.Table


@dataclass(frozen=True)
class _Bounds:
    """Where each user's parts begin in the flat log: train, valid, test and the end; int64 [U] each."""

    train: _IntArray
    valid: _IntArray
    test: _IntArray
    end: _IntArray


def build_tables(log: OrderedLog, splits: npt.NDArray[np.int8], rules: SampleRules) -> ShardTables:
    """Build the four tables of a shard.

    Parameters
    ----------
    log : ordered interactions of the shard's users.
    splits : int8 [n] 0 train, 1 valid, 2 test, non-decreasing within a user.
    """
    users = len(log.users)
    counts = [np.bincount(log.user_of_row[splits == part], minlength=users) for part in (TRAIN, VALID, TEST)]
    begin = log.offsets[:-1]
    bounds = _Bounds(begin, begin + counts[0], begin + counts[0] + counts[1], log.offsets[1:])
    trained = np.flatnonzero(counts[0])
    sequences = pa.table(
        {
            "user_id": log.users.take(pa.array(trained)),
            "items": slices(log.items, bounds.train[trained], bounds.valid[trained]),
        }
    )
    # A user with train interactions is in the sequences; a test sample tells what comes before it as well.
    came = np.flatnonzero((counts[0] == 0) & ((counts[1] == 0) | (counts[2] == 0)))
    untold = pa.table(
        {
            "user_id": log.users.take(pa.array(came)),
            "items": slices(log.items, bounds.train[came], bounds.end[came]),
        }
    )
    valid, no_valid, valid_targets = _held_out(log, bounds.train, bounds.valid, bounds.test, rules)
    test, no_test, test_targets = _held_out(log, bounds.train, bounds.test, bounds.end, rules)
    return ShardTables(
        sequences=sequences,
        train=_train(log, bounds, rules),
        valid=valid,
        test=test,
        empty_histories=(int(np.count_nonzero(counts[0] == 1)), no_valid, no_test),
        held_out=(valid_targets, test_targets),
        untold=untold,
    )


def _train(log: OrderedLog, bounds: _Bounds, rules: SampleRules) -> pa.Table:
    """Return one row per requested train position from the second on, by user, then by position."""
    length = bounds.valid - bounds.train
    wanted = length if rules.per_user == "all" else np.minimum(length, rules.per_user)
    rows = np.clip(np.minimum(wanted, length - 1), 0, None)
    user = np.repeat(np.arange(len(log.users)), rows)
    target = ranges(bounds.valid - rows, rows)
    position = target - bounds.train[user]
    history = slices(log.items, np.maximum(bounds.train[user], target - rules.max_history), target)
    return _with_ids(log, user, position, target, rules, {"history": history, "target": log.items[target]})


def _held_out(
    log: OrderedLog, begin: _IntArray, first: _IntArray, end: _IntArray, rules: SampleRules
) -> tuple[pa.Table, int, npt.NDArray[np.int32]]:
    """Return one row per user with a target in `first:end` and a history in `begin:first`.

    Also return how many users had no history, and the targets as one flat array.
    """
    targeted = end > first
    user = np.flatnonzero(targeted & (first > begin))
    history_begin = np.maximum(begin[user], first[user] - rules.max_history)
    lists = {
        "history": slices(log.items, history_begin, first[user]),
        "targets": slices(log.items, first[user], end[user]),
        "seen": slices(log.items, begin[user], first[user]),
    }
    table = _with_ids(log, user, first[user] - begin[user], first[user], rules, lists)
    flat = lists["targets"].values.to_numpy()
    return table.drop_columns("position"), int(np.count_nonzero(targeted)) - len(user), flat


def _with_ids(
    log: OrderedLog,
    user: _IntArray,
    position: _IntArray,
    target: _IntArray,
    rules: SampleRules,
    columns: dict[str, pa.Array | npt.NDArray[np.int32]],
) -> pa.Table:
    """Return the columns with ids before them, and position and timestamp (of the row `target`) after them."""
    user_ids = log.users.take(pa.array(user))
    head = {"sample_id": pa.array(sample_ids(user_ids.to_pylist(), position)), "user_id": user_ids}
    tail = {"position": pa.array(position.astype(np.int32))}
    if log.timestamps is not None:
        times = log.timestamps[target]
        tail["timestamp"] = pa.array(times.astype(np.int64) if rules.whole_timestamps else times)
    return pa.table({**head, **columns, **tail})


def slices(values: npt.NDArray[np.int32], begin: _IntArray, end: _IntArray) -> pa.ListArray:
    """Return list<int32> whose row i is `values[begin[i]:end[i]]`."""
    lengths = end - begin
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = pa.array(values[ranges(begin, lengths)], pa.int32())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=_LIST)


def ranges(begin: _IntArray, lengths: _IntArray) -> _IntArray:
    """Return the ranges `begin[i], begin[i] + 1, ...` of `lengths[i]` numbers each, one after another."""
    stops = np.cumsum(lengths)
    return np.arange(stops[-1] if len(stops) else 0) + np.repeat(begin - (stops - lengths), lengths)
