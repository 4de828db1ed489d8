"""The samples of a run in one process, and where each one's target lies in its user's train items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.audit.queries import Queries
from pipeline.stages.influence_workers import read_validation
from pipeline.tables import SampleShard, ragged_column, train_shards
from scoring.ids import draw_order
from scoring.ragged import Ragged, concatenate
from training.surrogate_data import TrainWindows, windows_of

_PLANTING_SEED = 0x504C414E


@dataclass(frozen=True, eq=False)
class AuditLog:
    """What an audit works on.

    Attributes
    ----------
    sequences : the train items of every user.
    samples : all train samples, N of them.
    place : int64 [N], where in `sequences.values` the target of each sample is.
    valid : every validation target as a sample.
    """

    sequences: Ragged
    samples: SampleShard
    place: npt.NDArray[np.int64]
    valid: SampleShard

    @classmethod
    def read(cls, data: Storage) -> AuditLog:
        """All shards of a run's data folder."""
        indices = train_shards(data)
        parts = [_read_shard(data, index) for index in indices]
        before = np.cumsum([0, *(len(sequences.values) for sequences, _, _ in parts)])
        return cls(
            concatenate([sequences for sequences, _, _ in parts]),
            _joined([samples for _, samples, _ in parts]),
            np.concatenate([place + start for (_, _, place), start in zip(parts, before[:-1], strict=True)]),
            _joined([read_validation(data, index) for index in indices]),
        )

    @property
    def last(self) -> npt.NDArray[np.bool_]:
        """bool [N], whether a sample's target is its user's last train item."""
        marks: npt.NDArray[np.bool_] = self.place + 1 == self.sequences.offsets[1:][self._user]
        return marks

    def queries(self, risk: str, wanted: int, seed: int) -> Queries:
        """About `wanted` groups of users whose risk, `train` or `valid`, is asked for."""
        if risk == "train":
            return Queries.of(self.samples, self._user, wanted, seed)
        # All validation targets of a user carry the id of one row.
        return Queries.of(self.valid, self.valid.sample_id, wanted, seed)

    @property
    def _user(self) -> npt.NDArray[np.int64]:
        """int64 [N], the row of each sample's user in `sequences`."""
        return self.sequences.row_of_value()[self.place]

    def windows(self, max_history: int, removed: npt.NDArray[np.bool_]) -> TrainWindows:
        """The surrogate's training windows without the terms of the samples marked in `removed` [N].

        Only the terms go: the interactions stay in later histories.
        """
        marks = np.zeros(len(self.sequences.values), dtype=np.bool_)
        marks[self.place[removed]] = True
        return windows_of(self.sequences, max_history, marks)

    def plant(self, share: float, seed: int, item_count: int) -> tuple[AuditLog, npt.NDArray[np.bool_]]:
        """The log with some targets replaced by random items, and which samples those are [N].

        Only a user's last train item is ever replaced, so no history of a train sample changes.
        """
        keys = draw_order(self.samples.sample_id, seed ^ _PLANTING_SEED)
        planted = self.last & (keys < np.uint64(share * 2.0**64))
        target = self.samples.target.copy()
        # Another item than the true one: a step of 1 to V − 1 around the catalogue.
        step = 1 + draw_order(self.samples.sample_id, seed + 1)[planted] % np.uint64(max(1, item_count - 1))
        target[planted] = (target[planted] - 1 + step.astype(np.int64)) % item_count + 1
        values = self.sequences.values.copy()
        values[self.place[planted]] = target[planted]
        samples = SampleShard(self.samples.sample_id, self.samples.history, target)
        return AuditLog(Ragged(values, self.sequences.offsets), samples, self.place, self.valid), planted


def _read_shard(data: Storage, index: int) -> tuple[Ragged, SampleShard, npt.NDArray[np.int64]]:
    sequences = data.read_table(f"sequences/{shard_name(index)}.parquet", ["user_id", "items"])
    table = data.read_table(
        f"samples/train/{shard_name(index)}.parquet", ["sample_id", "user_id", "history", "target", "position"]
    )
    items = ragged_column(sequences, "items")
    user = pc.index_in(table["user_id"], sequences["user_id"].combine_chunks()).to_numpy().astype(np.int64)
    samples = SampleShard(table["sample_id"].to_numpy(), ragged_column(table, "history"), table["target"].to_numpy())
    return items, samples, items.offsets[user] + table["position"].to_numpy()


def _joined(parts: list[SampleShard]) -> SampleShard:
    return SampleShard(
        np.concatenate([part.sample_id for part in parts]),
        concatenate([part.history for part in parts]),
        np.concatenate([part.target for part in parts]),
    )
