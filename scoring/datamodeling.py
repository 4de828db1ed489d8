"""How well scores predict the effect of removing samples: rank correlations with intervals, and separation.

The linear datamodeling score (Park et al., "TRAK", ICML 2023) is a Spearman correlation over models retrained without
random sets of samples. It correlates the sum of the removed samples' scores with the measured effect. With several
queries, each with scores of its own, it is their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
RESAMPLES = 1000
_Drawn = TypeVar("_Drawn")


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% percentile bootstrap interval.

    Attributes
    ----------
    resampled : values of the resamples. Estimates by one function from data of the same shape use the same draws, so
        their differences are differences of paired resamples.
    """

    value: float
    low: float
    high: float
    resampled: tuple[float, ...] = field(default=(), repr=False)

    def apart_from(self, other: Estimate) -> bool:
        """Return whether the two intervals do not overlap."""
        return self.low > other.high or other.low > self.high

    def may_equal(self, higher: Estimate) -> bool:
        """Return whether the difference to a higher estimate may be chance: its interval reaches 0.

        This needs paired estimates (see `resampled`). Otherwise this value must lie within the other's interval.
        """
        if not self.resampled or len(self.resampled) != len(higher.resampled):
            return self.value >= higher.low
        return bool(np.quantile(np.subtract(higher.resampled, self.resampled), 0.025) <= 0)


def linear_datamodeling_score(predicted: npt.ArrayLike, measured: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Return the mean Spearman correlation over queries of predicted and measured effects, with its interval.

    Every resample draws models and queries independently. This errs towards wide intervals when neither can be
    considered fixed (Owen, "The pigeonhole bootstrap", 2007).

    Parameters
    ----------
    predicted : [M] or [Q, M], for each query and model the summed scores of the samples that it was trained without.
    measured : same shape, the risk of each model on each query.

    Raises
    ------
    ValueError : fewer than three models, or different shapes.
    """
    scores, risks = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (predicted, measured))
    if scores.shape != risks.shape:
        raise ValueError(f"predicted effects {scores.shape} and measured effects {risks.shape} do not match")
    queries, models = scores.shape
    if models < 3:
        raise ValueError(f"a rank correlation needs at least 3 models, got {models}")
    generator = np.random.default_rng(seed)

    def correlation(drawn: tuple[Rows, Rows]) -> float:
        rows, columns = drawn
        cells = np.ix_(rows, columns)
        return float(rank_correlations(scores[cells], risks[cells]).mean())

    def draw() -> tuple[Rows, Rows]:
        return generator.integers(queries, size=(queries,)), generator.integers(models, size=(models,))

    return _bootstrap(correlation, draw, (np.arange(queries), np.arange(models)), RESAMPLES)


def rank_correlations(first: Floats, second: Floats) -> Floats:
    """Return Spearman's ρ of the rows of two arrays [Q, M], float64 [Q]. Ties get their mean rank; constant rows 0."""
    centred = []
    for values in (first, second):
        ranks = stats.rankdata(values, axis=1)
        centred.append(ranks - ranks.mean(axis=1, keepdims=True))
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    found: Floats = np.divide((centred[0] * centred[1]).sum(axis=1), scale, out=np.zeros(len(scale)), where=scale > 0)
    return found


def separation(low: npt.ArrayLike, high: npt.ArrayLike, seed: int = 0, resamples: int = 500) -> Estimate:
    """Return the AUC with its interval: the probability that a score in `high` exceeds one in `low`, ties half.

    Raises
    ------
    ValueError : one side is empty.
    """
    below, above = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if not (len(below) and len(above)):
        raise ValueError("both sides need scores to be separated")
    scores = np.concatenate([below, above])
    generator = np.random.default_rng(seed)

    def area(rows: Rows) -> float:
        ranks = stats.rankdata(scores[rows])[len(below) :]
        return float(ranks.sum() - len(above) * (len(above) + 1) / 2) / (len(below) * len(above))

    def draw() -> Rows:
        of_low = generator.integers(len(below), size=len(below))
        return np.concatenate([of_low, len(below) + generator.integers(len(above), size=len(above))])

    return _bootstrap(area, draw, np.arange(len(scores)), resamples)


def _bootstrap(
    statistic: Callable[[_Drawn], float], draw: Callable[[], _Drawn], whole: _Drawn, resamples: int
) -> Estimate:
    """Return the statistic of the whole, with its percentile interval over the draws (Efron, 1979)."""
    values = [statistic(draw()) for _ in range(resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(statistic(whole), float(low), float(high), tuple(round(value, 6) for value in values))
