from __future__ import annotations

import numpy as np
import pytest
import torch

from scoring.batching import HistoryBatch, collate
from scoring.difficulty import error_norms, gradient_norms, pair_embeddings
from scoring.objective import reduce_to_scope
from scoring.ragged import Ragged
from scoring.sasrec import SASRec, SASRecConfig
from scoring.surrogate import surrogate_scope

ITEMS = 11


def model(loss: str) -> SASRec:
    made = SASRec(SASRecConfig(ITEMS, max_history=6, hidden=8, dropout=0.0, loss=loss, negatives=5)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return made


def batch(rows: int = 7) -> HistoryBatch:
    generator = np.random.default_rng(0)
    histories = Ragged.from_rows([generator.integers(1, ITEMS + 1, generator.integers(1, 6)) for _ in range(rows)])
    return collate(histories, generator.integers(1, ITEMS + 1, rows), np.arange(rows))


def test_el2n_is_the_length_of_the_error():
    surrogate, samples = model("softmax"), batch()
    logits = surrogate.logits(surrogate.encode(samples.history, samples.lengths)).detach().numpy()
    expected = []
    for row, target in zip(logits, samples.target.tolist(), strict=True):
        probability = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        expected.append(np.linalg.norm(probability - np.eye(ITEMS)[target - 1]))
    np.testing.assert_allclose(error_norms(surrogate, samples), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", ["sampled", "bce"])
def test_el2n_over_sampled_candidates_is_between_0_and_root_2(loss):
    norms = error_norms(model(loss), batch())
    assert ((norms >= 0) & (norms <= 2**0.5)).all()


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_grand_is_the_norm_of_each_samples_own_gradient(loss):
    surrogate, samples = model(loss), batch()
    scope = surrogate_scope(surrogate, None)
    expected = []
    for row in range(len(samples.target)):
        surrogate.zero_grad()
        single = HistoryBatch(*(part[row : row + 1] for part in samples[:3]))
        surrogate.per_sample_loss(single).sum().backward()
        slopes = [part.grad for name, part in surrogate.named_parameters() if name in scope.names]
        expected.append(torch.cat([slope.flatten() for slope in slopes if slope is not None]).norm().item())
    found = gradient_norms(reduce_to_scope(surrogate, scope), scope, samples)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_embeddings_weigh_history_and_target_alike():
    surrogate, samples = model("softmax"), batch()
    pairs = pair_embeddings(surrogate, samples)
    assert pairs.shape == (7, 16)
    np.testing.assert_allclose(np.square(pairs[:, :8]).sum(1), 0.5, rtol=1e-5)
    target = surrogate.item_embedding(samples.target).detach().numpy()
    along = (pairs[:, 8:] * target).sum(1) / np.linalg.norm(target, axis=1)
    np.testing.assert_allclose(along, 0.5**0.5, rtol=1e-5)
