"""Predicted effects of removals against sums that are made sample by sample."""

from __future__ import annotations

import numpy as np
import torch

from scoring.batching import HistoryBatch
from scoring.removal_effects import RiskGradients, datamodeling_scores, removed_sums, with_weights

SAMPLES, QUERIES, MODELS, PARAMETERS = 7, 2, 3, 4


def test_weights_make_the_mean_the_queries_and_the_removals() -> None:
    generator = np.random.default_rng(0)
    gradients = generator.normal(size=(SAMPLES, PARAMETERS))
    queries = generator.random((QUERIES, SAMPLES))
    removed = generator.random((MODELS, SAMPLES)) < 0.5
    empty = torch.zeros(0, 1, dtype=torch.int64)
    parts = np.array_split(np.arange(SAMPLES), 3)
    batches = [(rows, HistoryBatch(empty, empty[:, 0], empty[:, 0])) for rows in parts]
    total = torch.zeros(1 + QUERIES + MODELS, PARAMETERS, dtype=torch.float64)
    for rows, (_, weights) in zip(parts, with_weights(batches, SAMPLES, lambda r: queries[:, r], removed), strict=True):
        total += weights @ torch.from_numpy(gradients[rows])
    mean, by_query, by_model = total.split([1, QUERIES, MODELS])
    assert np.allclose(mean[0], gradients.mean(axis=0))
    assert np.allclose(by_query, queries @ gradients)
    for model in range(MODELS):
        assert np.allclose(by_model[model], gradients[removed[model]].sum(axis=0))


def test_predictions_are_inner_products_with_the_removed_gradients() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: int) -> torch.Tensor:
        return torch.rand(rows, PARAMETERS, generator=generator, dtype=torch.float64)

    whole, removed, queries = drawn(1)[0], drawn(MODELS), {"train": drawn(2), "valid": drawn(1)}
    gradients = RiskGradients(whole, queries, removed)
    assert torch.equal(gradients.stacked, torch.cat([queries["train"], queries["valid"]]))
    found = gradients.predict(2 * gradients.stacked)
    assert {risk: values.shape for risk, values in found.items()} == {"train": (2, MODELS), "valid": (1, MODELS)}
    assert np.isclose(found["valid"][0, 1], float(2 * queries["valid"][0] @ removed[1]))
    assert RiskGradients.alone(whole).stacked.shape == (0, PARAMETERS)


def test_scores_predict_by_the_sum_of_what_is_removed() -> None:
    scores = np.arange(5, dtype=np.float32)
    removed = np.eye(5, dtype=np.bool_)[:4] | (np.arange(5) == 4)
    sums = removed_sums(scores, removed)
    assert sums.tolist() == [4.0, 5.0, 6.0, 7.0]
    found = datamodeling_scores({"train": sums[None]}, {"train": np.array([[1.0, 2.0, 3.0, 4.0]])})
    assert found["train"].value == 1.0
