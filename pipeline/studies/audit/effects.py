"""What retraining showed of an audit's removals, and the gradients that predict the same removals and risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cluster.shards import ShardRecord
from pipeline.engine.config import AuditConfig
from pipeline.stages.surrogate_source import SurrogateSource
from pipeline.studies.audit.audit_arms import AuditArm
from pipeline.studies.audit.audit_rows import WayFacts, resampled_record
from pipeline.studies.audit.loaded_log import AuditLog
from pipeline.studies.audit.queries import RISKS, Queries
from scoring.removal_effects import GradientSums, RiskGradients, datamodeling_scores, removed_sums, with_weights


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
        """Read the effects that the retraining workers recorded."""
        risks = {risk: np.array([record.facts[f"{risk}_risks"] for record in models]).T for risk in RISKS}
        return cls(arms, risks)

    def removed(self, sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which samples each model lacks, bool [M, N]."""
        return np.stack([arm.removed(sample_id, None) for arm in self.arms])

    def score(self, predicted: Mapping[str, npt.ArrayLike]) -> WayFacts:
        """Return the linear datamodeling score and its interval for each risk, from predictions [Q, M]."""
        found = datamodeling_scores(predicted, self.risks)
        return {"lds_train": resampled_record(found["train"]), "lds_valid": resampled_record(found["valid"])}

    def score_for_all(self, sample_id: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> WayFacts:
        """Return the same for scores [N] that say the same of every query."""
        sums = removed_sums(scores, self.removed(sample_id))
        return self.score({risk: np.broadcast_to(sums, risks.shape) for risk, risks in self.risks.items()})


def risk_gradients(
    sums: GradientSums,
    log: AuditLog,
    source: SurrogateSource,
    target: str,
    effects: Effects | None,
    audit: AuditConfig,
) -> RiskGradients:
    """Make one pass over the train samples and one over the validation targets; without effects compute `whole` alone.

    Parameters
    ----------
    target : the risk of `whole`, `train` or `valid`.
    """

    def summed(queries: Queries, lacking: npt.NDArray[np.bool_]) -> torch.Tensor:
        count = len(queries.samples)
        return sums(with_weights(source.batches(queries.samples), count, queries.weights, lacking))

    if effects is None:
        nothing = log.queries(target, 1, audit.seed)
        return RiskGradients.alone(summed(nothing, np.zeros((0, len(nothing.samples)), dtype=np.bool_))[0])
    means, parts, removed = {}, {}, []
    for risk in RISKS:
        queries = log.queries(risk, audit.queries, audit.seed)
        none = np.zeros((0, len(queries.samples)), dtype=np.bool_)
        lacking = effects.removed(log.samples.sample_id) if risk == "train" else none
        found = summed(queries, lacking)
        means[risk], parts[risk], rest = found.split([1, queries.count, len(lacking)])
        removed.append(rest)
    return RiskGradients(means[target][0], parts, torch.cat(removed))
