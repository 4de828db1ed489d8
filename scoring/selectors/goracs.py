"""Transport to a reference period, less λ times the gradient norm.

After Mei et al., "GORACS: Group-level Optimal Transport-guided Coreset Selection for LLM-based Recommender Systems",
KDD 2025: of all coresets of n samples, the one with the lowest transport distance to the validation samples minus
λ times its mean gradient norm. Theirs is exact transport over the whole cost matrix, a greedy start and exchanges;
this is its relaxation (`scoring.transport`), which streams. What is approximated:

- the weights of a coreset are free between 0 and 1/n, and entropy smooths them;
- the plan is solved on `transport_points` train and as many reference samples, both drawn by hash, and carried to
  the other train samples by the potentials of the reference;
- the coreset is drawn in proportion to the weights;
- where effort was given to candidates only, the plan is that of the candidates.

Embeddings are the surrogate's, of history and target; the gradient norm is the LLM's, the effort. Distances and
norms are divided by their means on the subset, where the paper's code divides by their maxima.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.ragged import concatenate
from scoring.reference import Reference, required_reference
from scoring.selectors.base import (
    ScoreShard,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    survey,
    usable_rows,
)
from scoring.selectors.plain import draw_lowest, plain_report
from scoring.subset import Subset
from scoring.transport import TOLERANCE, Transport, solve_transport
from scoring.weighted import weighted_keys

#: The draw of the points is of its own.
_SEED = 0x474F5241


class GoracsSelector:
    """The score is the ln of a sample's mass in the plan, as a share of 1/n."""

    scores: tuple[str, ...] = ("effort",)
    features: tuple[str, ...] = ("embedding",)
    sees_validation = True

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Three passes over the shards. Raises TooFewSamplesError, and SettingError without a reference."""
        reference = required_reference(reference, params.method)
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        budget = min(asked, counts.usable)
        points = self._points(shards, params)
        unit = float(points[:, -1].mean()) or 1.0
        weight = params.lambda_ / unit
        bound = counts.usable / len(points) / budget
        plan = solve_transport(
            points[:, :-1], weight * points[:, -1], _aim(reference, params), bound, params.transport_epsilon
        )

        def ranking(shard: ScoreShard) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
            assert shard.embedding is not None
            score = plan.log_mass(shard.embedding, weight * shard.effort.astype(np.float64))
            return weighted_keys(shard.sample_id, np.exp(score.astype(np.float64)), params.seed), score

        rows = draw_lowest(shards, self.scores, budget, ranking)
        facts, warnings = _facts(plan, len(points), unit), []
        if plan.residual > TOLERANCE:
            warnings.append(
                f"the transport stopped at a residual of {plan.residual:.2g} after {plan.iterations} iterations: "
                "raise select.transport_epsilon"
            )
        report = plain_report(
            params,
            counts,
            asked,
            len(rows),
            **{
                "lambda": params.lambda_,
                "reference_samples": reference.samples,
                "transport": facts,
                "warnings": warnings,
            },
        )
        return Selection.of(rows, report)

    def _points(self, shards: Shards, params: SelectionParams) -> npt.NDArray[np.float64]:
        """[M, d + 1], embeddings and gradient norms of the subset."""
        subset = Subset(params.transport_points, _SEED)
        for shard in shards():
            usable = shard.take(np.flatnonzero(usable_rows(shard, self.scores)))
            assert usable.embedding is not None
            subset.offer(usable.sample_id, np.column_stack([usable.embedding, usable.effort]).astype(np.float64))
        return subset.values()


def _aim(reference: Reference, params: SelectionParams) -> npt.NDArray[np.float32]:
    """Embeddings [M, d] of the reference samples that the plan is solved on."""
    assert reference.embed is not None
    subset = Subset(params.transport_points, _SEED)
    for number, part in enumerate(reference.shards()):
        places = np.column_stack([np.full(len(part), number), np.arange(len(part))])
        subset.offer(part.sample_id, places.astype(np.float64))
    chosen = subset.values().astype(np.int64)
    order, histories, targets = [], [], []
    for number, part in enumerate(reference.shards()):
        mine = np.flatnonzero(chosen[:, 0] == number)
        rows = chosen[mine, 1]
        order.append(mine)
        histories.append(part.histories.take(part.row[rows]))
        targets.append(part.target[rows])
    embedded = reference.embed(concatenate(histories), np.concatenate(targets))
    aim = np.empty_like(embedded)
    aim[np.concatenate(order)] = embedded
    return aim


def _facts(plan: Transport, points: int, unit: float) -> dict[str, float | int]:
    return {
        "train_points": points,
        "reference_points": len(plan.reference),
        "epsilon": plan.epsilon,
        "mean_cost": plan.cost_scale,
        "mean_gradient_norm": unit,
        "iterations": plan.iterations,
        "residual": plan.residual,
    }
