"""Strata: equal-width intervals of the score, and each one's share of the budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Strata:
    """`number` intervals of equal width from `low` to `high`, the lowest and highest remaining score."""

    low: float
    high: float
    number: int

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of the intervals, float64 [number + 1]."""
        return np.linspace(self.low, self.high, self.number + 1)

    def index(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Return the stratum of each score [N], int32 [N]; if all scores are equal, all are in stratum 0."""
        if self.high <= self.low:
            return np.zeros(len(scores), dtype=np.int32)
        position = (scores.astype(np.float64) - self.low) / (self.high - self.low) * self.number
        return np.clip(position.astype(np.int32), 0, self.number - 1)

    def counts(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Count the scores [N] in each stratum, int64 [number]; the counts of shards add up."""
        return np.bincount(self.index(scores), minlength=self.number)


def stratum_budgets(counts: npt.NDArray[np.int64], budget: int) -> npt.NDArray[np.int64]:
    """Return how many samples to draw from each stratum (coverage-centric: Zheng et al., ICLR 2023; DEALRec, §3.3).

    From the smallest stratum to the largest (ties by index), each non-empty one gets
    min(its size, ⌊budget left / strata left⌋), so what a small one leaves flows to the larger ones.

    Parameters
    ----------
    counts : number of samples in each stratum, int64 [K].
    budget : total number of samples to draw.

    Returns
    -------
    int64 [K], with sum min(budget, samples). Each non-empty stratum gets at least one sample if the budget is at least
    their number.
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
