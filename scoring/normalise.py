"""Maps that bring influence and effort to a common scale from 0 to 1.

All three are continuous, increasing, piecewise-linear maps through a few order statistics of the column, and flat
outside them. The order statistics are exact (`scoring.order_statistics`), so the map is the same whether the column is
in memory or streamed in shards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINSOR_TAIL = 0.01  # share of the samples that `robust` flattens at each end
RANK_KNOTS = 1024  # number of pieces in the CDF of `rank`


@dataclass(frozen=True)
class Anchors:
    """The order statistics that a map passes through.

    Attributes
    ----------
    ranks : int64 [R], zero-based, increasing.
    levels : float64 [R], values of the map at these ranks, in [0, 1].
    """

    ranks: npt.NDArray[np.int64]
    levels: npt.NDArray[np.float64]


def minmax_anchors(count: int) -> Anchors:
    """Map the smallest sample to 0 and the largest to 1, as in the paper. One outlier squeezes all others together."""
    return Anchors(np.array([0, count - 1]), np.array([0.0, 1.0]))


def robust_anchors(count: int) -> Anchors:
    """Apply min-max after winsorising: values beyond the 1st and 99th percentiles are moved to them."""
    low = int(np.floor(WINSOR_TAIL * (count - 1)))
    return Anchors(np.array([low, count - 1 - low]), np.array([0.0, 1.0]))


def rank_anchors(count: int) -> Anchors:
    """Use the empirical CDF at 1,025 equally spaced ranks, linear in between; exact up to 1,025 samples."""
    ranks = np.unique(np.arange(RANK_KNOTS + 1) * (count - 1) // RANK_KNOTS)
    return Anchors(ranks, ranks / max(count - 1, 1))


NORMALISATIONS: dict[str, Callable[[int], Anchors]] = {
    "minmax": minmax_anchors,
    "robust": robust_anchors,
    "rank": rank_anchors,
}


@dataclass(frozen=True)
class ScoreMap:
    """A fitted map.

    Attributes
    ----------
    knots : float32 [M], strictly increasing.
    levels : float64 [M], non-decreasing.
    """

    knots: npt.NDArray[np.float32]
    levels: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, anchors: Anchors, values: npt.NDArray[np.float32]) -> ScoreMap:
        """Fit the map through `values` [R], the column's order statistics at `anchors.ranks`.

        Equal values share the mean of their levels (the mid-rank); a constant column maps to one level.
        """
        knots, group = np.unique(np.asarray(values, dtype=np.float32), return_inverse=True)
        levels = np.bincount(group, weights=anchors.levels) / np.bincount(group)
        return cls(knots, levels)

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Map values [N] to the common scale, float64 [N].

        All operations are elementwise, so a value's image does not depend on the array it comes in.
        """
        if len(self.knots) == 1:
            return np.full(len(values), self.levels[0])
        last = len(self.knots) - 2
        piece: npt.NDArray[np.int64] | int = 0
        if last:
            piece = np.clip(np.searchsorted(self.knots, values, side="right") - 1, 0, last)
        start = self.knots[piece].astype(np.float64)
        width = self.knots[piece + 1].astype(np.float64) - start
        along = np.clip((values.astype(np.float64) - start) / width, 0.0, 1.0)
        rise = self.levels[piece + 1] - self.levels[piece]
        return self.levels[piece] + along * rise
