"""The surrogate's training windows and validation users, read from a run's data folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import UserError
from cluster.storage import Storage
from scoring.batching import windows
from scoring.ragged import Ragged
from training.loops.array_columns import part_names, read_parts, to_ragged
from training.loops.examples import chosen_rows
from training.loops.surrogate_spec import SurrogateSpec


@dataclass(frozen=True)
class TrainWindows:
    """Training windows, see `scoring.batching.windows`, and how many targets count in each.

    Attributes
    ----------
    items : the windows.
    first : int64 [W], the first input position that counts.
    targets : int64 [W].
    removed : in the layout of `items`, 1 where an item is no target; None where all are.
    labels : in the same layout, what is learnt in place of the items; None where these are.
    """

    items: Ragged
    first: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    removed: Ragged | None = None
    labels: Ragged | None = None

    def without(self, removed: Ragged) -> TrainWindows:
        """Return the windows without some targets; windows that have none left are dropped."""
        starts = self.items.offsets[:-1]
        place = np.arange(len(self.items.values)) - np.repeat(starts, self.items.lengths)
        counts = (removed.values == 0) & (place > np.repeat(self.first, self.items.lengths))
        before = np.concatenate([[0], np.cumsum(counts)])
        targets = before[self.items.offsets[1:]] - before[starts]
        kept = np.flatnonzero(targets)
        labels = None if self.labels is None else self.labels.take(kept)
        return TrainWindows(self.items.take(kept), self.first[kept], targets[kept], removed.take(kept), labels)


@dataclass(frozen=True)
class ValidUsers:
    """Validation rows: the history that is read, the targets, and what is masked; None where nothing is."""

    history: Ragged
    targets: Ragged
    seen: Ragged | None

    def take(self, rows: npt.ArrayLike) -> ValidUsers:
        seen = None if self.seen is None else self.seen.take(rows)
        return ValidUsers(self.history.take(rows), self.targets.take(rows), seen)


def train_windows(data: Storage, max_history: int) -> TrainWindows:
    """Return every train position as a target once. Raises `UserError` if no user has two train interactions."""
    return windows_of(train_sequences(data), max_history)


def train_sequences(data: Storage) -> Ragged:
    """Read the train items of every user, parts in order."""
    return to_ragged(read_parts(data.child("sequences"), ["items"], "train sequences")["items"])


def windows_of(
    sequences: Ragged,
    max_history: int,
    removed: npt.NDArray[np.bool_] | None = None,
    labels: npt.NDArray[np.int32] | None = None,
) -> TrainWindows:
    """Return the windows of given sequences, as `train_windows` does.

    Parameters
    ----------
    removed : bool, the values that must not be targets.
    labels : what is learnt in place of each value.
    """
    items, first = windows(sequences, max_history)
    if len(items) == 0:
        raise UserError(
            "No user has two train interactions, so there is nothing for the surrogate to learn.",
            "Give a larger log, or a data.split that leaves more of it for training.",
        )

    def alike(values: npt.NDArray[np.generic]) -> Ragged:
        return windows(Ragged(values.astype(np.int32), sequences.offsets), max_history)[0]

    whole = TrainWindows(items, first, items.lengths - 1 - first, labels=None if labels is None else alike(labels))
    return whole if removed is None else whole.without(alike(removed))


def valid_users(data: Storage, spec: SurrogateSpec) -> ValidUsers:
    """Read a set of validation users that is chosen by hash, in the order of the draw; all if there are no more."""
    folder = data.child("samples", "valid")
    names = part_names(folder, "validation samples")
    sample_ids = [folder.read_table(name, ["sample_id"])["sample_id"].to_numpy() for name in names]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in sample_ids])])
    chosen = chosen_rows(np.concatenate(sample_ids), spec.settings.valid_users, spec.settings.seed)
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
    return ValidUsers(history.tail(spec.max_history), targets, seen if spec.mask_seen else None)


def item_counts(data: Storage) -> npt.NDArray[np.int64]:
    """Return the number of train interactions of items 1..V, int64 [V]."""
    return np.asarray(data.read_table("items.parquet", ["count"])["count"].to_numpy(), dtype=np.int64)
