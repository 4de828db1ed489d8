"""Batches of histories and of training windows: rows of similar length together, padded on the right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoring.exceptions import SettingError
from scoring.ragged import Ragged

Rows = npt.NDArray[np.int64]


class HistoryBatch(NamedTuple):
    """B samples: a history and the one item that follows it.

    Attributes
    ----------
    history : int64 [B, T], item indices, oldest first, padded on the right with 0.
    lengths : int64 [B], items in each history.
    target : int64 [B], the item to predict, from 1.
    states : [B, T, d], [B, d] or None; what a surrogate computed ahead for a fixed scope (see `EncodedObjective`).
    hessian : [B, d, d] or None; the Hessian of each loss in the encoded history, when computed ahead.
    """

    history: Tensor
    lengths: Tensor
    target: Tensor
    states: Tensor | None = None
    hessian: Tensor | None = None


class SequenceBatch(NamedTuple):
    """B training windows; position t holds item `items[:, t]` and predicts `items[:, t + 1]`.

    Attributes
    ----------
    items : int64 [B, T + 1], padded on the right with 0.
    first : int64 [B]; a position t counts when t ≥ first and its target is not padding.
    removed : bool [B, T + 1] or None; an item marked here is read as history but is nobody's target.
    labels : int64 [B, T + 1] or None; what is to be predicted in place of `items`, which is read all the same.
    """

    items: Tensor
    first: Tensor
    removed: Tensor | None = None
    labels: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        return self.items[:, :-1]

    @property
    def targets(self) -> Tensor:
        return (self.items if self.labels is None else self.labels)[:, 1:]

    @property
    def counted(self) -> Tensor:
        """bool [B, T], the positions whose target is this window's to predict."""
        places = torch.arange(self.items.shape[1] - 1, device=self.items.device)
        counted = (self.targets != 0) & (places >= self.first[:, None])
        return counted if self.removed is None else counted & ~self.removed[:, 1:]


def length_buckets(
    lengths: npt.ArrayLike, max_tokens: int, max_rows: int, shuffle_seed: int | None = None
) -> list[Rows]:
    """Row indices in batches of similar length, so that little of a batch is padding.

    Parameters
    ----------
    lengths : [N] row lengths; an empty row counts as one token.
    max_tokens : upper bound of rows × longest row in a batch. A single row above it is a batch of its own.
    max_rows : upper bound of rows in a batch.
    shuffle_seed : reorder rows of equal length and the batches; None gives the longest first, rows in order.

    Returns
    -------
    int64 arrays that together hold every row exactly once.
    """
    if max_tokens < 1 or max_rows < 1:
        raise SettingError(f"a batch must hold at least one token and one row, not {max_tokens} and {max_rows}")
    tokens = np.maximum(np.asarray(lengths, dtype=np.int64), 1)
    generator = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
    order = np.arange(len(tokens)) if generator is None else generator.permutation(len(tokens))
    order = order[np.argsort(-tokens[order], kind="stable")]
    batches: list[Rows] = []
    start = 0
    while start < len(order):
        rows = min(max_rows, max(1, max_tokens // int(tokens[order[start]])))
        batches.append(order[start : start + rows])
        start += rows
    if generator is not None:
        batches = [batches[place] for place in generator.permutation(len(batches))]
    return batches


def collate(
    histories: Ragged, targets: npt.ArrayLike, rows: npt.ArrayLike, device: torch.device | str = "cpu"
) -> HistoryBatch:
    """The samples `rows` as one batch; `targets` is [N] and goes with `histories`, row for row."""
    chosen = histories.take(rows)
    target = np.asarray(targets, dtype=np.int64)[np.asarray(rows, dtype=np.int64)]
    return HistoryBatch(
        history=torch.from_numpy(_padded(chosen)).to(device),
        lengths=torch.from_numpy(chosen.lengths).to(device),
        target=torch.from_numpy(target).to(device),
    )


def collate_windows(
    sequences: Ragged,
    first: npt.ArrayLike,
    rows: npt.ArrayLike,
    device: torch.device | str = "cpu",
    removed: Ragged | None = None,
    labels: Ragged | None = None,
) -> SequenceBatch:
    """The training windows `rows` (see `windows`) as one batch.

    In the layout of `sequences`, `removed` marks targets that do not count and `labels` are learnt in place of items.
    """
    starts = np.asarray(first, dtype=np.int64)[np.asarray(rows, dtype=np.int64)]

    def chosen(values: Ragged) -> Tensor:
        return torch.from_numpy(_padded(values.take(rows))).to(device)

    return SequenceBatch(
        chosen(sequences),
        torch.from_numpy(starts).to(device),
        None if removed is None else chosen(removed) != 0,
        None if labels is None else chosen(labels),
    )


def windows(sequences: Ragged, max_history: int) -> tuple[Ragged, npt.NDArray[np.int64]]:
    """Cuts sequences into windows of at most `max_history` inputs and their targets.

    Every position from the second on is the target of exactly one window. Windows of a long sequence overlap
    by half, counted back from its end, so the last target is always predicted from the last `max_history`
    items, as it is when the sample is scored. Sequences of fewer than two items have no target and no window.

    Returns
    -------
    The windows (each of 2 to `max_history` + 1 items) in the order of the sequences, earliest first; and
    int64 [windows], the first input position of each whose target counts.
    """
    if max_history < 1:
        raise SettingError(f"max_history must be at least 1, not {max_history}")
    lengths = sequences.lengths
    stride = max(1, max_history // 2)
    per_row = np.where(lengths < 2, 0, 1 + -(-np.maximum(lengths - max_history - 1, 0) // stride))
    row = np.repeat(np.arange(len(lengths)), per_row)
    ends_before = np.cumsum(per_row)
    from_last = ends_before[row] - 1 - np.arange(len(row))
    earliest = from_last == per_row[row] - 1
    end = lengths[row] - from_last * stride
    start = np.where(earliest, 0, end - max_history - 1)
    first = np.where(earliest, 0, max_history - stride)
    offsets = np.concatenate([[0], np.cumsum(end - start)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(sequences.offsets[row] + start - offsets[:-1], end - start)
    return Ragged(sequences.values[places], offsets), first


def _padded(rows: Ragged) -> npt.NDArray[np.int64]:
    """int64 [N, longest row (at least 1)], padded on the right with 0."""
    lengths = rows.lengths
    padded = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = rows.values
    return padded
