"""The reference period that aimed selectors look at, read shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import (
    TRAIN_SAMPLES,
    list_array,
    ragged_column,
    train_shards,
    user_key_column,
)
from pipeline.ingest.statistics_record import train_count
from pipeline.stages.selection_needs import ReferenceAim, SelectionNeeds
from pipeline.stages.surrogate_feature_stage import reference_embedder
from scoring.ids import sample_ids
from scoring.order_statistics import RankSearch, double_keys, key_doubles, run_searches
from scoring.reference import Reference, ReferenceShard
from scoring.validation_halves import in_aimed_half

_COLUMNS = ["sample_id", "user_id", "history", "target"]


@dataclass(frozen=True)
class ReferencePeriod:
    """The samples of the period, read shard by shard; the object is sent to workers.

    Attributes
    ----------
    data : the run's data folder.
    half : whether only the half of the validation users that is aimed at counts.
    since : the time from which train samples belong to the period; None for validation.
    samples : the number of samples.
    warnings : sentences for the user.
    """

    data: Storage
    half: bool
    since: float | None
    samples: int = 0
    warnings: tuple[str, ...] = ()

    def indices(self) -> list[int]:
        """Return the numbers of the shards."""
        if self.since is not None:
            return train_shards(self.data)
        return list(range(len(self.data.list("samples/valid", suffix=".parquet"))))

    def read(self, index: int) -> ReferenceShard:
        """Read one shard. Every validation target is a sample; its id is that of the same place in the user's log."""
        if self.since is not None:
            table = self._late(index, ["sample_id", "user_id", "history", "target", "timestamp"])
            rows = np.arange(table.num_rows)
            history, target = ragged_column(table, "history"), table.column("target").to_numpy()
            ids = table.column("sample_id").to_numpy()
            return ReferenceShard(ids, history, rows, target, user_key_column(table))
        table = self._valid(index, ["sample_id", "user_id", "history", "targets", "seen"])
        targets = ragged_column(table, "targets")
        row = targets.row_of_value()
        position = ragged_column(table, "seen").lengths[row] + np.arange(len(row)) - targets.offsets[row]
        users = table.column("user_id").take(pa.array(row)).to_pylist()
        ids, keys = sample_ids(users, position), user_key_column(table)[row]
        return ReferenceShard(ids, ragged_column(table, "history"), row, targets.values, keys)

    def table(self, index: int) -> pa.Table:
        """Return the same samples as rows of sample_id, user_id, history and target."""
        part = self.read(index)
        if self.since is not None:
            users = self._late(index, ["user_id", "timestamp"]).column("user_id")
        else:
            users = self._valid(index, ["sample_id", "user_id"]).column("user_id").take(pa.array(part.row))
        columns = (pa.array(part.sample_id, pa.int64()), users, list_array(part.history()), pa.array(part.target))
        return pa.table(dict(zip(_COLUMNS, columns, strict=True)))

    def count(self, index: int) -> int:
        """Count the samples of shard `index`."""
        if self.since is not None:
            return int(self._late(index, ["timestamp"]).num_rows)
        return int(ragged_column(self._valid(index, ["sample_id", "targets"]), "targets").offsets[-1])

    def reference(self, context: StageContext) -> Reference:
        """Return the reference that a selector is given."""
        return Reference(
            lambda: (self.read(index) for index in self.indices()),
            self.samples,
            reference_embedder(context),
            self.since,
        )

    def _valid(self, index: int, columns: Sequence[str]) -> pa.Table:
        table = self.data.read_table(f"samples/valid/{shard_name(index)}.parquet", list(columns))
        return table.filter(pa.array(in_aimed_half(table.column("sample_id").to_numpy()))) if self.half else table

    def _late(self, index: int, columns: Sequence[str]) -> pa.Table:
        table = self.data.read_table(f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", list(columns))
        late = table.column("timestamp").to_numpy().astype(np.float64) >= self.since
        return table.filter(pa.array(late))


def reference_period(context: StageContext) -> ReferencePeriod:
    """Return the validation samples, or the last train samples by time.

    Raises
    ------
    UserError : the log has none, or no timestamps to find the last ones by.
    """
    section, data = context.config.select, context.folder("ingest")
    aim = ReferenceAim.of(section, SelectionNeeds.of(context.config).aims_influence)
    wanted = aim.period
    since = None if wanted == "valid" else _earliest(data, train_shards(data), wanted)
    period = ReferencePeriod(data, aim.half, since)
    samples = sum(map(period.count, period.indices()))
    if samples:
        return replace(period, samples=samples, warnings=_share_warnings(data, wanted, samples))
    targets = sum(map(replace(period, half=False).count, period.indices()))
    aimed, others = _aimed_key(aim, section.method)
    if targets:
        raise UserError(
            f"{aimed} is aimed at half of the validation users, drawn by hash, and that half is "
            f"empty: all {targets:,} validation targets belong to users of the other half.",
            "Take a log with more validation users, or leave out the settings that aim at them.",
        )
    raise UserError(
        f"{aimed} is aimed at a reference period, and select.reference: {wanted} is empty.",
        f"Set {others}, which needs no reference, or another data.split.",
    )


def _aimed_key(aim: ReferenceAim, method: str) -> tuple[str, str]:
    """Return the setting that makes the selection look at a reference, and an alternative that does not."""
    if aim.by_influence:
        return "select.influence: reference", "select.influence: scores"
    return f"select.method: {method}", "select.method: dealrec or random"


def _share_warnings(data: Storage, wanted: str | float, samples: int) -> tuple[str, ...]:
    """Warn of a share of train by time that exceeds the share asked for, since equal times are not parted.

    Raises `UserError` when nothing is left beside it.
    """
    if wanted == "valid":
        return ()
    total = train_count(data)
    if samples == total:
        raise UserError(
            f"select.reference: {wanted} of the train samples by time are all {total:,} of them, since these begin "
            "with as many of one time.",
            "Set a smaller share, or select.reference: valid; equal times are never parted.",
        )
    if samples > 2 * float(wanted) * total:
        return (f"equal times are not parted: the reference is {samples / total:.0%} of the train samples",)
    return ()


def _earliest(data: Storage, indices: Sequence[int], share: float) -> float:
    def times() -> Iterator[npt.NDArray[np.float64]]:
        for index in indices:
            found = read_timestamps(data, index)
            if found is None:
                raise UserError(
                    f"select.reference: {share} is a share of the train samples by time, but the log has no times.",
                    "Set select.reference to valid, or name the column of times in data.columns.timestamp.",
                )
            yield found

    total = sum(len(part) for part in times())
    rank = min(total - 1, total - round(share * total))
    (search,) = run_searches(lambda: ((double_keys(part),) for part in times()), [RankSearch.start([max(rank, 0)], 64)])
    return float(key_doubles(search.found)[0])


def read_timestamps(data: Storage, index: int) -> npt.NDArray[np.float64] | None:
    """Read the times of a shard's train samples, float64 [N]; None where the log has none."""
    table = data.read_table(f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", ["timestamp"])
    if "timestamp" not in table.column_names:
        return None
    times: npt.NDArray[np.float64] = table.column("timestamp").to_numpy().astype(np.float64)
    return times
