from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.batching import collate
from scoring.gradients import (
    directional_derivatives,
    directional_derivatives_many,
    finite_batches,
    mean_loss_gradient_sum,
    per_sample_gradients,
    per_sample_losses,
    weighted_gradient_sums,
)
from scoring.objective import reduce_to_scope
from scoring.sasrec import LOSSES
from scoring.scope import select_scope
from scoring.surrogate import surrogate_scope
from tests.scoring.cases import CASES, Network, Rows, SquaredLoss, histories, loop_gradients, samples, sasrec

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]()


def test_every_route_equals_the_per_sample_loop(case: Any) -> None:
    loop = loop_gradients(case)
    rows = torch.cat([per_sample_gradients(case.objective, case.scope, batch) for batch in case.batches])
    torch.testing.assert_close(rows, loop, **TIGHT)
    total, count = mean_loss_gradient_sum(case.objective, case.scope, case.batches)
    assert count == len(loop)
    assert total.dtype == torch.float64
    torch.testing.assert_close(total, loop.sum(0), **TIGHT)
    direction = torch.randn(case.scope.size, dtype=torch.float64)
    along = [directional_derivatives(case.objective, case.scope, direction, batch) for batch in case.batches]
    torch.testing.assert_close(torch.cat(along), loop @ direction, **TIGHT)


@pytest.mark.parametrize("entries", [1, 1 << 24])
def test_weighted_sums_are_weighted_sums_of_the_loop(case: Any, entries: int) -> None:
    loop = loop_gradients(case)
    weights = torch.randn(3, len(loop), dtype=torch.float64)
    parts = weights.split([len(per_sample_losses(case.objective, batch)) for batch in case.batches], dim=1)
    found = weighted_gradient_sums(case.objective, case.scope, zip(case.batches, parts, strict=True), entries)
    torch.testing.assert_close(found, weights @ loop, **TIGHT)


def test_samples_without_a_finite_gradient_are_in_no_mean() -> None:
    network = Network(torch.nn.Linear(3, 2).double(), SquaredLoss())
    scope = select_scope(network, ["layers.*"])
    rows = Rows(torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64))
    bad = Rows(rows.features.clone(), rows.labels.clone())
    bad.features[1] = float("inf")
    bad.labels[4] = float("nan")
    good = Rows(*(part[[0, 2, 3]] for part in rows))
    total, count = mean_loss_gradient_sum(network, scope, [bad, rows])
    expected, _ = mean_loss_gradient_sum(network, scope, [good, rows])
    assert count == 3 + 5
    torch.testing.assert_close(total, expected, **TIGHT)
    nothing = Rows(*(part[[1, 4]] for part in bad))
    kept = list(finite_batches(network, scope, [bad, nothing, rows]))
    assert [len(batch.features) for batch in kept] == [3, 5]
    assert mean_loss_gradient_sum(network, scope, [nothing])[1] == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_a_finite_gradient_is_left_out(loss: str) -> None:
    """Test the view that the stage uses. The bad samples have lengths of their own, so they form whole batches."""
    model = sasrec(loss, max_history=10)
    scope = surrogate_scope(model, None)
    with torch.no_grad():
        model.position_embedding.weight[5] = torch.nan
    objective = reduce_to_scope(model, scope)
    rows, target = histories(12)
    short, long = (np.flatnonzero(rows.lengths < 6), np.flatnonzero(rows.lengths >= 6))
    good, bad = collate(rows, target, short), collate(rows, target, long)
    assert len(long) > 1
    total, count = mean_loss_gradient_sum(objective, scope, [bad, good])
    assert count == len(short)
    torch.testing.assert_close(total, mean_loss_gradient_sum(objective, scope, [good])[0], **TIGHT)
    ones = [(batch, torch.ones(1, len(batch.target))) for batch in (bad, good)]
    torch.testing.assert_close(weighted_gradient_sums(objective, scope, ones)[0], total, rtol=1e-6, atol=1e-8)


def test_losses_are_those_of_single_samples(case: Any) -> None:
    losses = torch.cat([per_sample_losses(case.objective, batch) for batch in case.batches])
    alone = torch.cat([per_sample_losses(case.objective, sample) for sample in samples(case.batches)])
    torch.testing.assert_close(losses, alone, **TIGHT)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(LOSSES), st.permutations(range(10)), st.integers(1, 9), st.integers(0, 3), st.booleans())
def test_a_score_depends_on_its_sample_alone(
    loss: str, order: list[int], cut: int, padding: int, reduced: bool
) -> None:
    """The result does not depend on order, batches or padding."""
    model = sasrec(loss, max_history=10)
    scope = surrogate_scope(model, None)
    objective = reduce_to_scope(model, scope) if reduced else model
    direction = torch.randn(scope.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, target = histories(10)
    expected = directional_derivatives(objective, scope, direction, collate(rows, target, np.arange(10)))
    for part in (order[:cut], order[cut:]):
        batch = collate(rows, target, part)
        batch = batch._replace(history=torch.nn.functional.pad(batch.history, (0, padding)))
        found = directional_derivatives(objective, scope, direction, batch)
        torch.testing.assert_close(found, expected[part], **TIGHT)


def test_dropout_is_off_and_the_mode_and_gradients_are_left_alone() -> None:
    model = sasrec().train()
    scope = surrogate_scope(model, None)
    rows, target = histories(5)
    batch = collate(rows, target, np.arange(5))
    first, second = (per_sample_gradients(model, scope, batch) for _ in range(2))
    assert torch.equal(first, second)
    mean_loss_gradient_sum(model, scope, [batch])
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_rows_of_a_batch_have_gradients_of_their_own() -> None:
    model = sasrec()
    scope = surrogate_scope(model, None)
    rows, target = histories(6)
    norms = per_sample_gradients(model, scope, collate(rows, target, np.arange(6))).norm(dim=1)
    assert len(set(norms.tolist())) == 6


def test_float32_agrees_to_single_precision() -> None:
    exact = sasrec()
    single = sasrec().float()
    scope = surrogate_scope(exact, None)
    rows, target = histories(6)
    batch = collate(rows, target, np.arange(6))
    direction = torch.randn(scope.size, dtype=torch.float64)
    expected = directional_derivatives(exact, scope, direction, batch)
    found = directional_derivatives(single, scope, direction, batch)
    assert found.dtype == torch.float32
    scale = float(expected.square().mean().sqrt())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", CASES)
def test_many_directions_are_each_direction(name: str) -> None:
    case = CASES[name]()
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, case.scope.size, dtype=torch.float64, generator=generator)
    for batch in case.batches:
        found = directional_derivatives_many(case.objective, case.scope, directions, batch)
        for column, direction in enumerate(directions):
            expected = directional_derivatives(case.objective, case.scope, direction, batch)
            torch.testing.assert_close(found[:, column], expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_forward_mode_is_the_contraction_at_the_hooks_of_linear_layers(loss: str) -> None:
    """⟨∇ℓ(s), h⟩ = Σ over layers and positions of δ·(Hx + h_bias), with x and δ from hooks in one backward pass."""
    model = sasrec(loss).eval()
    scope = surrogate_scope(model, ["linear"])
    direction = torch.randn(scope.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = scope.unflatten(direction)
    rows, target = histories(6)
    batch = collate(rows, target, np.arange(6))
    caught: list[tuple[str, torch.Tensor, torch.Tensor]] = []
    layers = {name.removesuffix(".weight") for name in scope.names if name.endswith(".weight")}
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: caught.append((name, inputs[0].detach(), output))
        )
        for name, module in model.named_modules()
        if name in layers
    ]
    losses = model.per_sample_loss(batch)
    for handle in handles:
        handle.remove()
    slopes = torch.autograd.grad(losses.sum(), [output for _, _, output in caught])
    found = torch.zeros(6, dtype=torch.float64)
    for (name, inputs, _), slope in zip(caught, slopes, strict=True):
        moved = inputs @ parts[f"{name}.weight"].T + parts[f"{name}.bias"]
        found += (moved * slope).flatten(1).sum(1)
    objective = reduce_to_scope(model, scope)
    torch.testing.assert_close(found, directional_derivatives(objective, scope, direction, batch))
