from __future__ import annotations

import numpy as np
import torch

from scoring.batching import HistoryBatch, collate
from scoring.released import ReleasedInfluence
from scoring.sasrec import SASRec
from tests.scoring.cases import LargestTensor, histories, history_batches, samples, sasrec


def earlier_loss(model: SASRec, sample: HistoryBatch) -> torch.Tensor:
    """Return the mean over a history's inner targets, each predicted by its own call."""
    items = sample.history[0, : int(sample.lengths[0])]
    losses = [
        model.per_sample_loss(HistoryBatch(items[None, :end], torch.tensor([end]), items[end : end + 1]))
        for end in range(1, len(items))
    ]
    return torch.stack(losses).mean() if losses else torch.zeros((), dtype=torch.float64)


def released_weight(model: SASRec) -> torch.Tensor:
    return dict(model.named_parameters())["blocks.1.feed_forward.outer.weight"]


def loop_gradients(model: SASRec, batches: list[HistoryBatch]) -> torch.Tensor:
    weight = released_weight(model)
    rows = [
        torch.autograd.grad(earlier_loss(model.eval(), sample), weight, allow_unused=True)[0]
        if int(sample.lengths[0]) > 1
        else torch.zeros_like(weight)
        for sample in samples(batches)
    ]
    return torch.stack([row.reshape(-1) for row in rows])


def test_gradient_and_scores_are_those_of_a_plain_loop() -> None:
    for loss in ("softmax", "bce", "sampled"):
        model, batches = sasrec(loss), history_batches()
        expected = loop_gradients(model, batches)
        recipe = ReleasedInfluence(model)
        weights = torch.rand(3, len(expected), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        parts = zip(batches, weights.split([len(batch.target) for batch in batches], dim=1), strict=True)
        torch.testing.assert_close(recipe.gradient_sums(parts), weights @ expected)
        direction = torch.randn(expected.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        found = np.concatenate([recipe.scores(direction, batch) for batch in batches])
        np.testing.assert_allclose(found, (expected @ direction).numpy(), rtol=1e-5, atol=1e-6)


def test_a_history_of_one_item_scores_zero() -> None:
    model = sasrec()
    rows, target = histories(30)
    short = np.flatnonzero(rows.lengths == 1)
    scores = ReleasedInfluence(model).scores(torch.ones(16, dtype=torch.float64), collate(rows, target, short))
    assert len(short) > 1
    assert not scores.any()


def test_lissa_walks_towards_the_damped_solution() -> None:
    """If all samples are equal, its recursion is the fixed-point iteration of that sample's Hessian."""
    model, batches = sasrec(), history_batches()
    sample = next(sample for sample in samples(batches) if int(sample.lengths[0]) > 3)
    recipe = ReleasedInfluence(model)
    v = recipe.gradient_sums([(sample, torch.ones(1, 1))])
    stack = torch.cat([v, 3 * v])
    found, thrice = recipe.solve(stack, [sample] * 150, damp=0.1, scale=50.0).direction / 50.0
    torch.testing.assert_close(thrice, 3 * found)
    torch.testing.assert_close(recipe.solve(v[0], [sample] * 150, damp=0.1, scale=50.0).direction / 50.0, found)
    weight = released_weight(model)
    gradient = torch.autograd.grad(earlier_loss(model.eval(), sample), weight, create_graph=True)[0].reshape(-1)
    hessian = torch.stack([torch.autograd.grad(entry, weight, retain_graph=True)[0].reshape(-1) for entry in gradient])
    # h ← v + (1 − damp)h − Hh/scale is stationary where (H + damp·scale·I)(h/scale) = v.
    expected = torch.linalg.solve(hessian + 5.0 * torch.eye(16, dtype=torch.float64), v[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_many_right_hand_sides_share_a_sample_in_bounded_memory() -> None:
    model = sasrec(items=500)
    sample = next(sample for sample in samples(history_batches()) if int(sample.lengths[0]) > 3)
    v = torch.randn(12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = ReleasedInfluence(model).solve(v, [sample] * 3).direction
    outputs = 3 * sample.history.numel() * 500
    recipe = ReleasedInfluence(model, outputs)
    with LargestTensor() as largest:
        found = recipe.solve(v, [sample] * 3).direction
    torch.testing.assert_close(found, expected)
    assert largest.numbers <= outputs
