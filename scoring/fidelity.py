"""How well scores predict what removing samples does: rank correlations with intervals, and separation.

The linear datamodeling score (Park et al., "TRAK", ICML 2023) is the Spearman correlation, over models that were
retrained without random sets of samples, between the sum of the removed samples' scores and what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value and the percentile bootstrap interval that holds it with 95%."""

    value: float
    low: float
    high: float

    def apart_from(self, other: Estimate) -> bool:
        """Whether the two intervals share no point."""
        return self.low > other.high or other.low > self.high


def linear_datamodeling_score(predicted: npt.ArrayLike, measured: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Spearman correlation of predicted and measured effects, the retrained models resampled.

    Parameters
    ----------
    predicted : [M], for each model the sum of the scores of the samples it was trained without.
    measured : [M], the risk of each model.

    Raises
    ------
    ValueError : fewer than three models.
    """
    pairs = np.stack([np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)])
    if pairs.shape[1] < 3:
        raise ValueError(f"a rank correlation of {pairs.shape[1]} models says nothing; take at least 3")
    generator = np.random.default_rng(seed)

    def correlation(rows: npt.NDArray[np.int64]) -> float:
        return rank_correlation(pairs[0, rows], pairs[1, rows])

    def draw() -> npt.NDArray[np.int64]:
        return generator.integers(pairs.shape[1], size=(pairs.shape[1],))

    return _bootstrap(correlation, draw, pairs.shape[1])


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's ρ, ties at their mean rank; 0 where one side does not vary."""
    ranks = [stats.rankdata(values) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float(centred[0] @ centred[1]) / scale if scale > 0 else 0.0


def separation(low: npt.ArrayLike, high: npt.ArrayLike, seed: int = 0, resamples: int = 500) -> Estimate:
    """AUC: the probability that a score of `high` exceeds one of `low`, ties counted half; both resampled.

    Raises
    ------
    ValueError : one side is empty.
    """
    below, above = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if not (len(below) and len(above)):
        raise ValueError("a separation needs scores on both sides")
    scores = np.concatenate([below, above])
    generator = np.random.default_rng(seed)

    def area(rows: npt.NDArray[np.int64]) -> float:
        ranks = stats.rankdata(scores[rows])[len(below) :]
        return float(ranks.sum() - len(above) * (len(above) + 1) / 2) / (len(below) * len(above))

    def draw() -> npt.NDArray[np.int64]:
        of_low = generator.integers(len(below), size=len(below))
        return np.concatenate([of_low, len(below) + generator.integers(len(above), size=len(above))])

    return _bootstrap(area, draw, len(scores), resamples)


def _bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    draw: Callable[[], npt.NDArray[np.int64]],
    rows: int,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The statistic of all rows, with the percentile interval over resampled ones (Efron, 1979)."""
    values = [statistic(draw()) for _ in range(resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(statistic(np.arange(rows)), float(low), float(high))
