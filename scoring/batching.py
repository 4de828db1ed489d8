"""Batches of histories and of training windows: rows of similar length together, right-padded."""

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
    """B samples, each a history and the item that follows it.

    Attributes
    ----------
    history : int64 [B, T], item indices, oldest first, right-padded with 0.
    lengths : int64 [B], number of items in each history.
    target : int64 [B], item to predict, from 1.
    states : [B, T, d], [B, d] or None; what a surrogate precomputed for a fixed scope (see `EncodedObjective`).
    hessian : [B, d, d] or None; Hessian of each loss in the encoded history, if precomputed.
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
    items : int64 [B, T + 1], right-padded with 0.
    first : int64 [B]; position t counts if t ≥ first and its target is not padding.
    removed : bool [B, T + 1] or None; an item marked here is read as history but never predicted.
    labels : int64 [B, T + 1] or None; what to predict in place of `items`, which are still read.
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
        """Positions whose target this window predicts, bool [B, T]."""
        positions = torch.arange(self.items.shape[1] - 1, device=self.items.device)
        counted = (self.targets != 0) & (positions >= self.first[:, None])
        return counted if self.removed is None else counted & ~self.removed[:, 1:]


def length_buckets(
    lengths: npt.ArrayLike, max_tokens: int, max_rows: int, shuffle_seed: int | None = None
) -> list[Rows]:
    """Group row indices into batches of similar length, so that batches contain little padding.

    Parameters
    ----------
    lengths : row lengths, [N]; an empty row counts as one token.
    max_tokens : maximum of rows × longest row in a batch. A single row above it forms a batch of its own.
    max_rows : maximum number of rows in a batch.
    shuffle_seed : shuffles rows of equal length, and the batches; None puts the longest first and keeps row order.

    Returns
    -------
    int64 arrays that together contain every row exactly once.
    """
    if max_tokens < 1 or max_rows < 1:
        raise SettingError(f"a batch must hold at least one token and one row, got {max_tokens} and {max_rows}")
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
        batches = [batches[index] for index in generator.permutation(len(batches))]
    return batches


def collate(
    histories: Ragged, targets: npt.ArrayLike, rows: npt.ArrayLike, device: torch.device | str = "cpu"
) -> HistoryBatch:
    """Collate the samples `rows` into one batch. `targets` [N] corresponds to `histories` row by row."""
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
    """Collate the training windows `rows` (see `windows`) into one batch.

    Both in the layout of `sequences`, `removed` marks targets that do not count and `labels` replaces the items to
    predict.
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
    """Cut sequences into windows of at most `max_history` inputs and their targets.

    Every position from the second on is the target of exactly one window. The windows of a long sequence overlap by
    half, counted back from its end. So the last target is always predicted from the last `max_history` items, just as
    when the sample is scored. Sequences of fewer than two items have no target and no window.

    Returns
    -------
    The windows (each of 2 to `max_history` + 1 items) in the order of the sequences, earliest first; and for each
    window the first input position whose target counts, int64 [windows].
    """
    if max_history < 1:
        raise SettingError(f"max_history must be at least 1, got {max_history}")
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
    sources = np.arange(offsets[-1]) + np.repeat(sequences.offsets[row] + start - offsets[:-1], end - start)
    return Ragged(sequences.values[sources], offsets), first


def _padded(rows: Ragged) -> npt.NDArray[np.int64]:
    """Pad rows on the right with 0, and return int64 [N, longest row (at least 1)]."""
    lengths = rows.lengths
    padded = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = rows.values
    return padded
