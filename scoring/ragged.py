"""Rows of different lengths, stored in two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Ragged:
    """N rows of item indices: row i is `values[offsets[i]:offsets[i + 1]]`.

    Attributes
    ----------
    values : int32 [total].
    offsets : int64 [N + 1], starting at 0 and non-decreasing.
    """

    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise ValueError("offsets must start at 0 and end at the number of values")

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int] | npt.NDArray[np.integer]]) -> Ragged:
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        return cls(np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of items in each row, int64 [N]."""
        return np.diff(self.offsets)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: npt.ArrayLike) -> Ragged:
        """Return the given rows in the given order."""
        index = np.asarray(rows, dtype=np.int64)
        return _gather(self.values, self.offsets[index], self.lengths[index])

    def tail(self, count: int) -> Ragged:
        """Return the last `count` items of each row."""
        kept = np.minimum(self.lengths, count)
        return _gather(self.values, self.offsets[1:] - kept, kept)

    def row_of_value(self) -> npt.NDArray[np.int64]:
        """Return the row that each value belongs to, int64 [total]."""
        return np.repeat(np.arange(len(self)), self.lengths)


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """Concatenate the rows of several parts."""
    if not parts:
        return Ragged.from_rows([])
    lengths = np.concatenate([part.lengths for part in parts])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(np.concatenate([part.values for part in parts]), offsets)


def _gather(values: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Ragged:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    sources = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Ragged(values[sources], offsets)
