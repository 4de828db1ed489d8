"""What the surrogate is trained and validated on, read from a run's data folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import UserError
from cluster.storage import Storage
from scoring.batching import windows
from scoring.ragged import Ragged
from training.examples import chosen_rows
from training.tables import part_names, read_parts, to_ragged


@dataclass(frozen=True)
class TrainWindows:
    """Training windows, see `scoring.batching.windows`, and how many targets count in each.

    Attributes
    ----------
    items : the windows.
    first : int64 [W], the first input position that counts.
    targets : int64 [W].
    """

    items: Ragged
    first: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ValidUsers:
    """Validation rows: the history that is read, the targets, and what is masked."""

    history: Ragged
    targets: Ragged
    seen: Ragged

    def take(self, rows: npt.ArrayLike) -> ValidUsers:
        return ValidUsers(self.history.take(rows), self.targets.take(rows), self.seen.take(rows))


def train_windows(data: Storage, max_history: int) -> TrainWindows:
    """Every train position as a target once. Raises `UserError` if no user has two train interactions."""
    sequences = to_ragged(read_parts(data.child("sequences"), ["items"], "train sequences")["items"])
    items, first = windows(sequences, max_history)
    if len(items) == 0:
        raise UserError(
            "No user has two train interactions, so there is nothing for the surrogate to learn.",
            "Give a larger log, or a data.split that leaves more of it for training.",
        )
    return TrainWindows(items, first, items.lengths - 1 - first)


def valid_users(data: Storage, count: int, seed: int, max_history: int) -> ValidUsers:
    """A hash-chosen set of validation users, in the order of the draw; all of them if there are no more."""
    folder = data.child("samples", "valid")
    names = part_names(folder, "validation samples")
    sample_ids = [folder.read_table(name, ["sample_id"])["sample_id"].to_numpy() for name in names]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in sample_ids])])
    chosen = chosen_rows(np.concatenate(sample_ids), count, seed)
    if len(chosen) == 0:
        raise UserError(
            "There is no validation sample to choose the best surrogate by.",
            "Give a larger log, or a data.split that leaves some of it for validation.",
        )
    tables, places = [], []
    for part, name in enumerate(names):
        here = np.flatnonzero((chosen >= starts[part]) & (chosen < starts[part + 1]))
        if len(here):
            table = folder.read_table(name, ["history", "targets", "seen"])
            tables.append(table.take(pa.array(chosen[here] - starts[part])))
            places.append(here)
    picked = pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places))))
    history, targets, seen = (to_ragged(picked[name]) for name in ("history", "targets", "seen"))
    return ValidUsers(history.tail(max_history), targets, seen)


def item_counts(data: Storage) -> npt.NDArray[np.int64]:
    """int64 [V], train interactions of items 1..V."""
    return np.asarray(data.read_table("items.parquet", ["count"])["count"].to_numpy(), dtype=np.int64)
