"""How often items occur in a stream of samples: integers, so the order of the stream leaves no trace."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Tally:
    """A sum by item index that grows with the largest index; items never seen have 0."""

    def __init__(self) -> None:
        self._totals = np.zeros(0, dtype=np.int64)

    def add(self, items: npt.NDArray[np.integer], amounts: npt.NDArray[np.int64] | None = None) -> None:
        """Add one for each of the items [N], or `amounts` int64 [N]."""
        if not len(items):
            return
        size = max(len(self._totals), int(items.max()) + 1)
        totals = np.zeros(size, dtype=np.int64)
        totals[: len(self._totals)] = self._totals
        if amounts is None:
            totals += np.bincount(items, minlength=size)
        else:
            np.add.at(totals, items, amounts)
        self._totals = totals

    def of(self, items: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The totals of the items [N], int64 [N]."""
        totals = np.zeros(len(items), dtype=np.int64)
        known = items < len(self._totals)
        totals[known] = self._totals[items[known]]
        return totals
