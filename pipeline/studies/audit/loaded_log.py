"""Load the samples of a run in one process, and find each one's target among its user's train items."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.sample_tables import SampleShard, ragged_column, train_shards
from pipeline.stages.surrogate_source import read_validation
from pipeline.studies.audit.queries import Queries
from scoring.ids import draw_order, sample_ids
from scoring.ragged import Ragged, concatenate
from training.loops.surrogate_data import TrainWindows, windows_of

_PLANTING_SEED = 0x504C414E


@dataclass(frozen=True, eq=False)
class AuditLog:
    """The data that an audit works on.

    Attributes
    ----------
    sequences : the train items of every user.
    samples : all train samples, N of them.
    place : the position of each sample's target in `sequences.values`, int64 [N].
    planted : whether each sample has the target of another one, bool [N].
    valid : every validation target as a sample.
    user, valid_user : a hash of the id of the user of each row of `sequences` and of `valid`, int64; it does not depend
        on how the log is cut into shards.
    """

    sequences: Ragged
    samples: SampleShard
    place: npt.NDArray[np.int64]
    valid: SampleShard
    user: npt.NDArray[np.int64]
    valid_user: npt.NDArray[np.int64]
    planted: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, data: Storage) -> AuditLog:
        """Read all shards of a run's data folder."""
        indices = train_shards(data)
        parts = [_read_shard(data, index) for index in indices]
        before = np.cumsum([0, *(len(part.sequences.values) for part in parts)])
        return cls(
            concatenate([part.sequences for part in parts]),
            _joined([part.samples for part in parts]),
            np.concatenate([part.place + start for part, start in zip(parts, before[:-1], strict=True)]),
            _joined([part.valid for part in parts]),
            np.concatenate([part.user for part in parts]),
            np.concatenate([part.valid_user for part in parts]),
            np.concatenate([part.planted for part in parts]),
        )

    def queries(self, risk: str, wanted: int, seed: int) -> Queries:
        """Return about `wanted` groups of users whose risk, `train` or `valid`, is measured."""
        if risk == "train":
            return Queries.of(self.samples, self.user[self._row], wanted, seed)
        return Queries.of(self.valid, self.valid_user, wanted, seed)

    @property
    def _row(self) -> npt.NDArray[np.int64]:
        """The row of each sample's user in `sequences`, int64 [N]."""
        return self.sequences.row_of_value()[self.place]

    def windows(self, max_history: int, removed: npt.NDArray[np.bool_]) -> TrainWindows:
        """Return the surrogate's training windows without the terms of the samples marked in `removed` [N].

        Only the terms go; the interactions stay in later histories. So do interactions whose targets were replaced: a
        planted target changes what is learnt, not what is read.
        """
        marks = np.zeros(len(self.sequences.values), dtype=np.bool_)
        marks[self.place[removed]] = True
        labels = self.sequences.values.astype(np.int32)
        labels[self.place[self.planted]] = self.samples.target[self.planted]
        return windows_of(self.sequences, max_history, marks, labels if self.planted.any() else None)

    def plant(self, share: float, seed: int) -> AuditLog:
        """Return the log with the targets of about a `share` of its samples rotated in a random order drawn by hash.

        All targets are as frequent as before, so only its history can give a wrong one away. No history changes.

        Raises `UserError` if no target could be replaced by another one.
        """
        keys = draw_order(self.samples.sample_id, seed ^ _PLANTING_SEED)
        drawn = np.flatnonzero(keys < np.uint64(share * 2.0**64))
        circle = drawn[np.argsort(keys[drawn], kind="stable")]
        target = self.samples.target.copy()
        target[circle] = self.samples.target[np.roll(circle, 1)]
        planted = target != self.samples.target
        if not planted.any():
            raise UserError(
                "No two samples could exchange their targets.", "Audit a larger log, or raise audit.planted."
            )
        samples = SampleShard(self.samples.sample_id, self.samples.history, target)
        return replace(self, samples=samples, planted=planted)


def _read_shard(data: Storage, index: int) -> AuditLog:
    sequences = data.read_table(f"sequences/{shard_name(index)}.parquet", ["user_id", "items"])
    table = data.read_table(
        f"samples/train/{shard_name(index)}.parquet", ["sample_id", "user_id", "history", "target", "position"]
    )
    items = ragged_column(sequences, "items")
    user = pc.index_in(table["user_id"], sequences["user_id"].combine_chunks()).to_numpy().astype(np.int64)
    samples = SampleShard(table["sample_id"].to_numpy(), ragged_column(table, "history"), table["target"].to_numpy())
    place = items.offsets[user] + table["position"].to_numpy()
    valid = data.read_table(f"samples/valid/{shard_name(index)}.parquet", ["user_id", "targets"])
    validated = _numbers(valid["user_id"])[ragged_column(valid, "targets").row_of_value()]
    asked = read_validation(data, index)
    nothing = np.zeros(len(samples), dtype=np.bool_)
    return AuditLog(items, samples, place, asked, _numbers(sequences["user_id"]), validated, nothing)


def _numbers(user_ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    names = user_ids.to_pylist()
    return sample_ids(names, np.zeros(len(names), dtype=np.int64))


def _joined(parts: list[SampleShard]) -> SampleShard:
    return SampleShard(
        np.concatenate([part.sample_id for part in parts]),
        concatenate([part.history for part in parts]),
        np.concatenate([part.target for part in parts]),
    )
