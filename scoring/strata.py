"""Strata: equal-width intervals of the score, and the share of the budget that each gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Strata:
    """`number` intervals of equal width from `low` to `high`, the lowest and highest score that remain."""

    low: float
    high: float
    number: int

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """float64 [number + 1]."""
        return np.linspace(self.low, self.high, self.number + 1)

    def index(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """The stratum of each score [N], int32 [N]; equal scores all fall into stratum 0."""
        if self.high <= self.low:
            return np.zeros(len(scores), dtype=np.int32)
        place = (scores.astype(np.float64) - self.low) / (self.high - self.low) * self.number
        return np.clip(place.astype(np.int32), 0, self.number - 1)

    def counts(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """How many of the scores [N] each stratum holds, int64 [number]; the counts of shards add up."""
        return np.bincount(self.index(scores), minlength=self.number)


def stratum_budgets(counts: npt.NDArray[np.int64], budget: int) -> npt.NDArray[np.int64]:
    """How many samples to draw from each stratum (coverage-centric: Zheng et al., ICLR 2023; DEALRec, §3.3).

    From the smallest stratum to the largest (ties by index), each non-empty one gets
    min(its size, ⌊budget left / strata left⌋): what a small one leaves flows to the larger ones.

    Parameters
    ----------
    counts : int64 [K], samples in each stratum.
    budget : samples wanted in all.

    Returns
    -------
    int64 [K], summing to min(budget, samples). Each non-empty stratum gets at least one when the budget is at
    least their number.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    budgets = np.zeros_like(sizes)
    filled = np.flatnonzero(sizes)
    order = filled[np.argsort(sizes[filled], kind="stable")]
    left = budget
    for done, stratum in enumerate(order):
        budgets[stratum] = min(int(sizes[stratum]), left // (len(order) - done))
        left -= int(budgets[stratum])
    return budgets
