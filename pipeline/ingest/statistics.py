"""The counts of an ingest: those of a shard, and their totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ingest.held_out_repeats import repeated_targets
from pipeline.ingest.ingest_spec import PARTS
from pipeline.ingest.samples import ShardTables
from pipeline.ingest.sequences import OrderedLog
from pipeline.ingest.statistics_record import HeldOutCounts, LengthSummary, PartCounts, TallyTotals, TieCounts

#: How many numbers `tie_counts` returns.
_TIES = 5
_Array = npt.NDArray[np.integer]


def shard_facts(shard: int, log: OrderedLog, splits: npt.NDArray[np.int8], tables: ShardTables) -> dict[str, pa.Array]:
    """Return the counts of one shard as a row of small lists."""
    lengths, length_counts = np.unique(np.diff(log.offsets), return_counts=True)
    facts: dict[str, _Array] = {
        "interactions": np.bincount(splits, minlength=len(PARTS)),
        "repeated_targets": repeated_targets(log, splits),
        "samples": np.array([len(table) for table in (tables.train, tables.valid, tables.test)]),
        "empty_histories": np.array(tables.empty_histories),
        "lengths": lengths,
        "length_counts": length_counts,
        "ties": tie_counts(log, splits),
    }
    targets = (log.items[splits == 0], *tables.held_out)
    for part, items in zip(PARTS, targets, strict=True):
        facts[f"{part}_items"], facts[f"{part}_counts"] = np.unique(items, return_counts=True)
    integers = pa.list_(pa.int64())
    lists = {name: pa.array([values.astype(np.int64)], integers) for name, values in facts.items()}
    out_of_order = pa.array([log.users_out_of_order], pa.int64())
    longest = log.users[int(np.argmax(np.diff(log.offsets)))].as_py() if len(log.users) else None
    ids = {"shard": pa.array([shard], pa.int64()), "longest": pa.array([longest], pa.string())}
    return {**ids, "out_of_order": out_of_order, **lists}


def tie_counts(log: OrderedLog, splits: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Count what the log's times leave open, int64 [5].

    In order: interactions that share their time with another one of the user; consecutive pairs with the same time; all
    consecutive pairs; users whose held-out target has the time of the interaction before it; users with a held-out
    target.
    """
    user = log.user_of_row
    shared = log.tied.copy()
    shared[:-1] |= log.tied[1:]
    boundary = np.zeros(len(splits), dtype=bool)
    boundary[1:] = (splits[1:] != splits[:-1]) & (user[1:] == user[:-1])
    pairs = len(splits) - len(log.users)
    counts = (
        shared.sum(),
        log.tied.sum(),
        pairs,
        len(np.unique(user[boundary & log.tied])),
        len(np.unique(user[boundary])),
    )
    return np.array(counts, dtype=np.int64)


@dataclass
class IngestTally:
    """Totals over shards, added up as shards finish.

    Attributes
    ----------
    item_counts : how often each item is a train interaction, a valid target and a test target, int64 [3, V + 1].
    longest : minus the largest number of interactions of a user, and that user's id, the least of several.
    """

    item_counts: npt.NDArray[np.int64]
    shards: set[int] = field(default_factory=set)
    interactions: _Array = field(default_factory=lambda: np.zeros(3, np.int64))
    repeated_targets: _Array = field(default_factory=lambda: np.zeros(2, np.int64))
    samples: _Array = field(default_factory=lambda: np.zeros(3, np.int64))
    empty_histories: _Array = field(default_factory=lambda: np.zeros(3, np.int64))
    ties: _Array = field(default_factory=lambda: np.zeros(_TIES, np.int64))
    lengths: Counter[int] = field(default_factory=Counter)
    users_out_of_order: int = 0
    longest: tuple[int, str] = (0, "")

    @classmethod
    def for_items(cls, count: int) -> IngestTally:
        return cls(np.zeros((len(PARTS), count + 1), np.int64))

    def add(self, facts: pa.Table) -> None:
        """Add rows of `shard_facts`. Raises `RuntimeError` if a shard comes twice."""
        for row in range(facts.num_rows):
            one = {name: facts[name][row] for name in facts.column_names}
            shard = one["shard"].as_py()
            if shard in self.shards:
                raise RuntimeError(f"shard {shard} was written from two blocks")
            self.shards.add(shard)
            self.users_out_of_order += one["out_of_order"].as_py()
            self.interactions = self.interactions + _flat(one["interactions"])
            self.repeated_targets = self.repeated_targets + _flat(one["repeated_targets"])
            self.samples = self.samples + _flat(one["samples"])
            self.empty_histories = self.empty_histories + _flat(one["empty_histories"])
            self.ties = self.ties + _flat(one["ties"])
            if one["longest"].is_valid:
                self.longest = min(self.longest, (-int(_flat(one["lengths"])[-1]), one["longest"].as_py()))
            lengths = zip(_flat(one["lengths"]).tolist(), _flat(one["length_counts"]).tolist(), strict=True)
            for length, count in lengths:
                self.lengths[length] += count
            for index, part in enumerate(PARTS):
                self.item_counts[index, _flat(one[f"{part}_items"])] += _flat(one[f"{part}_counts"])

    def statistics(self) -> TallyTotals:
        """Return the totals under the names that statistics.json uses."""
        train, *held_out = self.item_counts
        return {
            "users": sum(self.lengths.values()),
            "interactions": _by_part(self.interactions),
            "samples": _by_part(self.samples),
            "targets": _held_out(counts.sum() for counts in held_out),
            "cold_targets": _held_out(counts[train == 0].sum() for counts in held_out),
            "repeated_targets": _held_out(self.repeated_targets),
            "empty_histories": _by_part(self.empty_histories),
            "users_with_fewer_than_3": sum(count for length, count in self.lengths.items() if length < 3),
            "users_out_of_order": self.users_out_of_order,
            "ties": _ties(self.ties),
            "sequence_length": length_summary(self.lengths),
            "longest_user": self.longest[1],
        }


def _flat(cell: pa.ListScalar) -> npt.NDArray[np.int64]:
    return cell.values.to_numpy()


def _by_part(counts: Iterable[int]) -> PartCounts:
    train, valid, test = (int(count) for count in counts)
    return {"train": train, "valid": valid, "test": test}


def _held_out(counts: Iterable[int]) -> HeldOutCounts:
    valid, test = (int(count) for count in counts)
    return {"valid": valid, "test": test}


def _ties(counts: Iterable[int]) -> TieCounts:
    interactions, pairs, of_pairs, users, of_users = (int(count) for count in counts)
    return {
        "interactions": interactions,
        "consecutive_pairs": pairs,
        "of_consecutive_pairs": of_pairs,
        "users_with_tied_target": users,
        "of_users_with_target": of_users,
    }


def length_summary(lengths: Counter[int]) -> LengthSummary:
    """Return mean, median and maximum of interactions per user, from how often each length occurs."""
    ordered = np.array(sorted(lengths.items()), dtype=np.int64).reshape(-1, 2)
    if not len(ordered):
        return {"mean": 0.0, "median": 0.0, "max": 0}
    cumulated = np.cumsum(ordered[:, 1])
    users = int(cumulated[-1])
    middle = [ordered[np.searchsorted(cumulated, rank), 0] for rank in ((users + 1) // 2, users // 2 + 1)]
    return {
        "mean": float((ordered[:, 0] * ordered[:, 1]).sum() / users),
        "median": float(np.mean(middle)),
        "max": int(ordered[-1, 0]),
    }
