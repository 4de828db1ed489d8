"""The samples that a curvature is computed on: a draw by hash, cut into chunks.

The draw goes by sample id, so it is the same however a log is cut into shards. The chunks follow the order of the draw,
so they, and every sum over them, are the same for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order

#: The draw's own seed, so that it is independent of the coreset's.
CURVATURE_SEED = 0x43555256

Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CurvatureCut:
    """How curvature samples are held.

    Attributes
    ----------
    chunk : samples of one chunk at most.
    kept : samples that are kept in memory, prepared, between the steps of a solver.
    """

    chunk: int = 1024
    kept: int = 1 << 16

    def size(self, asked: int | Literal["all"], total: int, solver: str) -> int:
        """Return how many of `total` samples the curvature is taken over.

        The steps of `lissa` are chunks, so that they are the same however the log is cut into shards: it takes no more
        samples than are kept.
        """
        wanted = total if asked == "all" else min(asked, total)
        return min(wanted, self.kept) if solver == "lissa" else wanted

    def over_shards(self, wanted: int, total: int) -> bool:
        """Tell whether a solver rereads whole shards at each step instead of keeping chunks."""
        return wanted == total > self.kept

    def chunks(self, rows: Rows) -> list[Rows]:
        """Cut rows into chunks whose sizes differ by at most one, since `lissa` weighs all of them alike.

        No rows make one empty chunk.
        """
        return np.array_split(rows, max(1, -(-len(rows) // self.chunk)))


def curvature_keys(sample_id: npt.NDArray[np.int64]) -> Keys:
    """Return the keys of the draw, uint64 [N]: the samples with the lowest keys are drawn."""
    return draw_order(sample_id, CURVATURE_SEED)


def likely_bound(wanted: int, total: int) -> float:
    """Return a share of the keys' range that almost certainly holds `wanted` of `total` keys, and few more."""
    return min(1.0, (wanted + 8 * wanted**0.5 + 16) / total)


def rows_below(keys: Keys, bound: float) -> Rows:
    """Return the rows of the keys [N] that are at most `bound` as a share of their range."""
    return np.flatnonzero(keys.astype(np.float64) / 2.0**64 <= bound)


def first_rows(keys: Keys, wanted: int | None = None) -> Rows:
    """Return the rows of the `wanted` lowest keys in the order of the draw; of all keys if `wanted` is left out."""
    return np.argsort(keys, kind="stable")[:wanted]
