from __future__ import annotations

from dataclasses import replace

import numpy as np

from scoring.transport import distances
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import embed, lowest, only_shard, reference_samples, waiting_times, whole_shard


def dense_log_mass(embedding, effort, reference, budget: int, params: SelectionParams) -> np.ndarray:
    """The capacity-bound plan with the whole cost matrix in memory: ln of each row's mass over 1/n."""
    cost = distances(embedding.astype(np.float64), reference.astype(np.float64))
    cost = cost / cost.mean() - params.lambda_ * (effort / effort.mean())[:, None]
    kernel = np.exp(-cost / params.transport_epsilon)
    columns = np.ones(len(reference))
    for _ in range(5000):
        rows = np.minimum(1.0, 1.0 / budget / (kernel @ columns))
        columns = 1.0 / len(reference) / (kernel.T @ rows)
    return np.minimum(np.log((kernel @ columns) * budget), 0.0)


def test_is_the_dense_plan_where_all_points_fit():
    shard, reference = whole_shard(80), reference_samples(25)
    shard = replace(shard, ok=np.ones(80, dtype=bool))
    params = SelectionParams("goracs", 20, seed=3, lambda_=0.1, transport_epsilon=0.2)
    chosen = select(lambda: iter([shard]), params, reference)
    assert shard.embedding is not None
    part = only_shard(reference)
    aim = embed(part.history(), part.target)
    mass = dense_log_mass(shard.embedding, shard.effort.astype(np.float64), aim, 20, params)
    assert chosen.report["transport"]["residual"] <= 1e-3
    assert chosen.sample_id.tolist() == lowest(waiting_times(shard.sample_id, np.exp(mass), 3), 20)


def test_takes_what_lies_near_the_reference():
    shard, reference = whole_shard(600), reference_samples(50)
    params = SelectionParams("goracs", 40, lambda_=0.0, transport_points=200)
    chosen = select(lambda: iter([shard]), params, reference)
    assert shard.embedding is not None
    place = dict(zip(shard.sample_id.tolist(), shard.embedding.mean(1).tolist(), strict=True))
    # The reference lies around 2 in every dimension, train around 0.
    assert np.mean([place[sample] for sample in chosen.sample_id.tolist()]) > 0.4


def test_lambda_prefers_large_gradients():
    shard, reference = whole_shard(600), reference_samples(50)
    efforts = [
        select(lambda: iter([shard]), SelectionParams("goracs", 40, lambda_=weight), reference).effort.mean()
        for weight in (0.0, 1.0)
    ]
    assert efforts[1] > 2 * efforts[0]


def test_a_transport_that_does_not_settle_is_said():
    shard, reference = whole_shard(300), reference_samples(50)
    settled = SelectionParams("goracs", 40, lambda_=0.1, transport_epsilon=0.2)
    hard = replace(settled, transport_epsilon=1e-4)
    warnings = [select(lambda: iter([shard]), params, reference).report["warnings"] for params in (settled, hard)]
    assert warnings[0] == []
    assert "raise select.transport_epsilon" in warnings[1][0]
