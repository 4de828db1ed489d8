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
from scoring.reference import Reference
from scoring.selectors.base import LogView, Rows, Scores, ScoreShard, Selector
from scoring.selectors.selector_settings import TransportSettings
from scoring.subset import Subset
from scoring.transport import TOLERANCE, solve_transport

#: The draw of the points is of its own.
_SEED = 0x474F5241


class GoracsSelector(Selector):
    """The score is the ln of a sample's mass in the plan, as a share of 1/n."""

    scores = ("effort",)
    features = ("embedding",)
    sees_validation = True
    draw = "log_proportional"
    Settings = TransportSettings
    settings: TransportSettings

    def fit(self, log: LogView) -> None:
        """Solve the plan on the subsets: one pass over the shards, two over the reference."""
        points = self._points(log)
        self._train_points, self._unit = len(points), float(points[:, -1].mean()) or 1.0
        self._weight = self.settings.lambda_ / self._unit
        bound = log.counts.usable / len(points) / min(log.asked, log.counts.usable)
        aim = _aim(log.reference, self.settings.transport_points)
        epsilon = self.settings.transport_epsilon
        self._plan = solve_transport(points[:, :-1], self._weight * points[:, -1], aim, bound, epsilon)

    def rank(self, shard: ScoreShard) -> Scores:
        assert shard.embedding is not None
        return self._plan.log_mass(shard.embedding, self._weight * shard.effort.astype(np.float64))

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        plan = self._plan
        transport = {
            "train_points": self._train_points,
            "reference_points": len(plan.reference),
            "epsilon": plan.epsilon,
            "mean_cost": plan.cost_scale,
            "mean_gradient_norm": self._unit,
            "iterations": plan.iterations,
            "residual": plan.residual,
        }
        samples = log.reference.samples
        return {"lambda": self.settings.lambda_, "reference_samples": samples, "transport": transport}

    def warnings(self, log: LogView, chosen: Rows) -> list[str]:
        found, plan = super().warnings(log, chosen), self._plan
        if plan.residual > TOLERANCE:
            found.append(
                f"the transport stopped at a residual of {plan.residual:.2g} after {plan.iterations} iterations: "
                "raise select.transport_epsilon"
            )
        return found

    def _points(self, log: LogView) -> npt.NDArray[np.float64]:
        """Return the embeddings and gradient norms of the subset, [M, d + 1]."""
        subset = Subset(self.settings.transport_points, _SEED)
        for usable in log.usable():
            assert usable.embedding is not None
            subset.offer(usable.sample_id, np.column_stack([usable.embedding, usable.effort]).astype(np.float64))
        return subset.values()


def _aim(reference: Reference, points: int) -> npt.NDArray[np.float32]:
    """Return embeddings [M, d] of the reference samples that the plan is solved on."""
    assert reference.embed is not None
    subset = Subset(points, _SEED)
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
