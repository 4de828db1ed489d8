"""A uniform subset of bounded size from a stream, drawn by hash and in a fixed order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order

Values = npt.NDArray[np.float64]


class Subset:
    """Keeps the values of the `size` samples with the lowest keys; holds up to twice that and a shard.

    Results computed from its rows, in their order, do not depend on how the stream was split or ordered.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._parts: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], Values]] = []
        self._held = 0
        self._bar = np.iinfo(np.uint64).max

    def offer(self, sample_id: npt.NDArray[np.int64], values: Values) -> None:
        """Consider samples int64 [N] with values [N, F]."""
        key = draw_order(sample_id, self._seed)
        rows = np.flatnonzero(key <= self._bar)
        self._parts.append((key[rows], sample_id[rows], values[rows]))
        self._held += len(rows)
        if self._held > 2 * self._size:
            self._compact()

    def values(self) -> Values:
        """Return the values [min(size, N), F], ordered by (key, sample id)."""
        return self._compact()[2]

    def _compact(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], Values]:
        key, sample_id, values = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.lexsort((sample_id, key))[: self._size]
        kept = (key[order], sample_id[order], values[order])
        if len(order) == self._size:
            self._bar = kept[0][-1]
        self._parts, self._held = [kept], len(order)
        return kept
