"""The effects of removing samples: what retraining showed of risks, and what gradients predict for them.

A query is a group of samples whose mean loss is its risk. Q queries are asked of M models, each of which was trained
without some samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoring.batching import HistoryBatch
from scoring.datamodeling import Estimate, linear_datamodeling_score

#: (batches with the weights [K, B] of their samples) ↦ K weighted sums of their gradients, [K, P].
GradientSums = Callable[[Iterable[tuple[HistoryBatch, Tensor]]], Tensor]
Floats = npt.NDArray[np.float64]
Removed = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RiskGradients:
    """Gradients, float64, by the parameters of one scope.

    Attributes
    ----------
    whole : [P], of the risk whose influence is scored.
    queries : for each risk [Q, P], of the queries' risks.
    removed : [M, P], summed over the samples that each model lacks.
    """

    whole: Tensor
    queries: Mapping[str, Tensor]
    removed: Tensor

    @classmethod
    def alone(cls, whole: Tensor) -> RiskGradients:
        """Hold the gradient of the risk without any query or removal."""
        return cls(whole, {}, torch.zeros(0, len(whole), dtype=torch.float64))

    def predict(self, directions: Tensor) -> dict[str, Floats]:
        """Return the effect of each removal on each query, [Q, M], by h of all queries, [ΣQ, P] as in `stacked`."""
        parts = directions.split([len(part) for part in self.queries.values()])
        return {risk: (part @ self.removed.T).numpy() for risk, part in zip(self.queries, parts, strict=True)}

    @property
    def stacked(self) -> Tensor:
        """The gradients of all queries, [ΣQ, P]."""
        return torch.cat([*self.queries.values(), self.whole.new_zeros(0, len(self.whole))])


def with_weights(
    batches: Iterable[tuple[npt.NDArray[np.int64], HistoryBatch]],
    samples: int,
    query_weights: Callable[[npt.NDArray[np.int64]], Floats],
    removed: Removed,
) -> Iterator[tuple[HistoryBatch, Tensor]]:
    """Yield batches with the weights of the mean over all samples, of each query's mean, and of each removal's sum.

    Parameters
    ----------
    batches : rows and their batch; `samples` rows in all.
    query_weights : rows [B] ↦ float64 [Q, B], the weight of each in the queries' means.
    removed : bool [M, N], the samples that each model lacks.

    Returns
    -------
    Batches with float64 [1 + Q + M, B].
    """
    mean = 1.0 / samples
    for rows, batch in batches:
        weights = [np.full((1, len(rows)), mean), query_weights(rows), removed[:, rows].astype(np.float64)]
        yield batch, torch.from_numpy(np.concatenate(weights))


def removed_sums(scores: npt.NDArray[np.float32], removed: Removed) -> Floats:
    """Predict each removal, bool [M, N], by scores [N]: the sum over the samples removed, float64 [M]."""
    return np.array([scores[lacking].sum(dtype=np.float64) for lacking in removed])


def datamodeling_scores(predicted: Mapping[str, npt.ArrayLike], risks: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Return the linear datamodeling score of each risk: predictions [Q, M] against measurements [Q, M]."""
    return {risk: linear_datamodeling_score(predicted[risk], risks[risk]) for risk in predicted}
