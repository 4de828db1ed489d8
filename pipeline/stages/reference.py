"""The reference period that aimed selectors look at, as samples in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.graph import StageContext
from pipeline.stages.surrogate_features import reference_embedder
from pipeline.stages.validation_half import aimed_at
from pipeline.tables import TRAIN_SAMPLES, list_array, ragged_column, train_shards
from scoring.ids import sample_ids
from scoring.order_statistics import RankSearch, double_keys, key_doubles, run_searches
from scoring.ragged import Ragged
from scoring.selection import Reference

_COLUMNS = ["sample_id", "user_id", "history", "target"]


@dataclass(frozen=True)
class ReferencePeriod:
    """Samples of the period in the order of sample ids: R rows of sample_id, user_id, history, target."""

    table: pa.Table

    def reference(self, context: StageContext) -> Reference:
        """The arrays that scoring works on."""
        history, target = ragged_column(self.table, "history"), self.table.column("target").to_numpy()
        embed = reference_embedder(context, history, target)
        return Reference(self.table.column("sample_id").to_numpy(), history, target, embed)


def reference_period(context: StageContext) -> ReferencePeriod:
    """The validation samples, or the last train samples by time.

    Raises
    ------
    UserError : the log has none, or no timestamps to find the last ones by.
    """
    section = context.config.select
    data, wanted, half = context.folder("ingest"), section.reference, section.reference_users == "half"
    parts = list(_validation(data, half) if wanted == "valid" else _last_of_train(data, wanted))
    table = pa.concat_tables(parts).sort_by("sample_id") if parts else None
    if table is None or not table.num_rows:
        raise UserError(
            f"select.method: {context.config.select.method} is aimed at a reference period, and {wanted} is empty.",
            "Choose a method that is aimed at none, such as dealrec or random, or another data.split.",
        )
    return ReferencePeriod(table)


def _validation(data: Storage, half: bool) -> Iterator[pa.Table]:
    """Every validation target as a sample, its id that of the same place in the user's log."""
    for name in data.list("samples/valid", suffix=".parquet"):
        table = data.read_table(f"samples/valid/{name}", ["sample_id", "user_id", "history", "targets", "seen"])
        if half:
            table = table.filter(pa.array(aimed_at(table.column("sample_id").to_numpy())))
        targets = ragged_column(table, "targets")
        row = targets.row_of_value()
        first = ragged_column(table, "seen").lengths
        position = first[row] + np.arange(len(row)) - targets.offsets[row]
        users = table.column("user_id").take(pa.array(row))
        yield _samples(users, position, ragged_column(table, "history").take(row), targets.values)


def _samples(
    users: pa.ChunkedArray, position: npt.NDArray[np.int64], history: Ragged, target: npt.NDArray[np.int32]
) -> pa.Table:
    columns = (
        pa.array(sample_ids(users.to_pylist(), position), pa.int64()),
        users,
        list_array(history),
        pa.array(target, pa.int32()),
    )
    return pa.table(dict(zip(_COLUMNS, columns, strict=True)))


def _last_of_train(data: Storage, share: float) -> Iterator[pa.Table]:
    """The train samples at or after the time before which 1 − share of them lie."""
    indices = train_shards(data)
    earliest = _earliest(data, indices, share)
    for index in indices:
        table = data.read_table(f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", [*_COLUMNS, "timestamp"])
        late = table.column("timestamp").to_numpy().astype(np.float64) >= earliest
        yield table.filter(pa.array(late)).select(_COLUMNS)


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
    """Times of the train samples of a shard, float64 [N]; None where the log has none."""
    table = data.read_table(f"{TRAIN_SAMPLES}/{shard_name(index)}.parquet", ["timestamp"])
    if "timestamp" not in table.column_names:
        return None
    times: npt.NDArray[np.float64] = table.column("timestamp").to_numpy().astype(np.float64)
    return times
