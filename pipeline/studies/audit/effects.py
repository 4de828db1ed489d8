"""The effects of removals: what retraining showed, and what scores predict for the same removals and risks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cluster.shards import ShardRecord
from pipeline.engine.config import AuditConfig
from pipeline.stages.surrogate_source import SurrogateSource
from pipeline.studies.audit.audit_arms import AuditArm
from pipeline.studies.audit.loaded_log import AuditLog
from pipeline.studies.audit.queries import RISKS, Queries
from scoring.batching import HistoryBatch
from scoring.datamodeling import linear_datamodeling_score

#: (batches with the weights [K, B] of their samples) ↦ K weighted sums of their gradients, [K, P].
GradientSums = Callable[[Iterable[tuple[HistoryBatch, Tensor]]], Tensor]


@dataclass(frozen=True, eq=False)
class Effects:
    """The risks of models that were trained without random samples.

    Attributes
    ----------
    arms : M of them, what each model was trained without.
    risks : for `train` and `valid`, float64 [Q, M]: the risk of each model at each query.
    """

    arms: Sequence[AuditArm]
    risks: Mapping[str, npt.NDArray[np.float64]]

    @classmethod
    def measured(cls, arms: Sequence[AuditArm], models: Sequence[ShardRecord]) -> Effects:
        """From what the retraining workers recorded."""
        risks = {risk: np.array([record.facts[f"{risk}_risks"] for record in models]).T for risk in RISKS}
        return cls(arms, risks)

    def removed(self, sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """bool [M, N], which samples each model lacks."""
        return np.stack([arm.removed(sample_id, None) for arm in self.arms])

    def score(self, predicted: Mapping[str, npt.ArrayLike]) -> dict[str, Any]:
        """The linear datamodeling score and its interval for each risk, from predictions [Q, M]."""
        return {
            f"lds_{risk}": asdict(linear_datamodeling_score(predicted[risk], self.risks[risk])) for risk in predicted
        }

    def score_for_all(self, sample_id: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> dict[str, Any]:
        """The same for scores [N] that say the same of every query."""
        sums = np.array([scores[lacking].sum(dtype=np.float64) for lacking in self.removed(sample_id)])
        return self.score({risk: np.broadcast_to(sums, risks.shape) for risk, risks in self.risks.items()})


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

    def predict(self, directions: Tensor) -> dict[str, npt.NDArray[np.float64]]:
        """The effect of each removal on each query, [Q, M], from h of all queries [ΣQ, P] in the order of `stacked`."""
        parts = directions.split([len(part) for part in self.queries.values()])
        return {risk: (part @ self.removed.T).numpy() for risk, part in zip(self.queries, parts, strict=True)}

    @property
    def stacked(self) -> Tensor:
        """The gradients of all queries, [ΣQ, P]."""
        return torch.cat([*self.queries.values(), self.whole.new_zeros(0, len(self.whole))])


def risk_gradients(
    sums: GradientSums,
    log: AuditLog,
    source: SurrogateSource,
    target: str,
    effects: Effects | None,
    audit: AuditConfig,
) -> RiskGradients:
    """One pass over the train samples and one over the validation targets; without effects only `whole`.

    Parameters
    ----------
    target : the risk of `whole`, `train` or `valid`.
    """
    if effects is None:
        nothing = log.queries(target, 1, audit.seed)
        whole = sums(_weighted(source, nothing, np.zeros((0, len(nothing.samples)))))[0]
        return RiskGradients(whole, {}, torch.zeros(0, len(whole), dtype=torch.float64))
    means, parts, removed = {}, {}, []
    for risk in RISKS:
        queries = log.queries(risk, audit.queries, audit.seed)
        lacking = effects.removed(log.samples.sample_id) if risk == "train" else np.zeros((0, len(queries.samples)))
        found = sums(_weighted(source, queries, lacking))
        means[risk], parts[risk], rest = found.split([1, queries.count, len(lacking)])
        removed.append(rest)
    return RiskGradients(means[target][0], parts, torch.cat(removed))


def _weighted(
    source: SurrogateSource, queries: Queries, lacking: npt.NDArray[Any]
) -> Iterator[tuple[HistoryBatch, Tensor]]:
    """Batches with the weights of the mean over all samples, of each query's mean, and of each sum over `lacking`."""
    mean = 1.0 / len(queries.samples)
    for rows, batch in source.batches(queries.samples):
        weights = [np.full((1, len(rows)), mean), queries.weights(rows), lacking[:, rows].astype(np.float64)]
        yield batch, torch.from_numpy(np.concatenate(weights))
