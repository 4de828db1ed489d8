from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scoring.exceptions import SettingError
from scoring.gradients import directional_derivatives, influence_scores, mean_loss_gradient_sum
from scoring.influence import LocalCurvature, solve_direction
from scoring.kronecker import linear_layers
from scoring.objective import reduce_to_scope
from scoring.sasrec import LOSSES
from scoring.scope import select_scope
from scoring.solver_settings import SOLVERS, SolverName, SolverSettings
from tests.scoring.cases import Case, Network, Rows, SquaredLoss, dense_gauss_newton, history_batches, sasrec


def sasrec_case(loss: str = "softmax", reduced: bool = True) -> Case:
    model = sasrec(loss)
    scope = select_scope(model, ["blocks.1.feed_forward.*", "blocks.1.attention.value.*"])
    batches = history_batches(count=12, max_tokens=48)
    return Case(reduce_to_scope(model, scope) if reduced else model, scope, batches)


def influence(case: Case, settings: SolverSettings, prepare: bool = True) -> tuple[np.ndarray[Any, Any], float]:
    """Scores of all samples in the order of the batches, and the relative error of their mean, which is ⟨v, h⟩."""
    total, count = mean_loss_gradient_sum(case.objective, case.scope, case.batches)
    v = total / count
    curvature = LocalCurvature(case.objective, case.scope, [case.batches], prepare)
    layers = linear_layers(case.objective, case.scope)
    h = solve_direction(settings, curvature, v, case.scope, layers).direction
    scores = np.concatenate([influence_scores(case.objective, case.scope, h, batch) for batch in case.batches])
    expected = float(v.to(torch.float64) @ h.to(torch.float64))
    return scores, abs(float(scores.astype(np.float64).mean()) - expected) / abs(expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_mean_score_is_the_product_of_v_and_h(loss: str, solver: SolverName) -> None:
    settings = SolverSettings(solver, damping=0.5, lissa_scale=2000.0, lissa_steps=5)
    scores, error = influence(sasrec_case(loss), settings)
    assert scores.dtype == np.float32
    assert error < 1e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_cg_equals_exact_equals_a_dense_solve(loss: str) -> None:
    case = sasrec_case(loss)
    damping = 0.3
    cg, _ = influence(case, SolverSettings("cg", damping, tolerance=1e-10))
    exact, _ = influence(case, SolverSettings("exact", damping))
    slow, _ = influence(sasrec_case(loss, reduced=False), SolverSettings("cg", damping, 1e-10), prepare=False)
    total, count = mean_loss_gradient_sum(case.objective, case.scope, case.batches)
    dense = dense_gauss_newton(case) / count + damping * torch.eye(case.scope.size, dtype=torch.float64)
    h = torch.linalg.solve(dense, total / count)
    reference = np.concatenate([influence_scores(case.objective, case.scope, h, batch) for batch in case.batches])
    scale = float(np.sqrt(np.mean(reference.astype(np.float64) ** 2)))
    for scores in (cg, exact, slow):
        np.testing.assert_allclose(scores, reference, rtol=0, atol=1e-5 * scale)


def test_ridge_influence_over_one_minus_leverage_is_leave_one_out() -> None:
    """Deleting the term of one sample, 1/N kept: vᵀ(θ₋ₛ − θ)·N = I(s) / (1 − leverage), exactly."""
    torch.manual_seed(0)
    count, width, damping = 30, 4, 0.2
    features = torch.randn(count, width, dtype=torch.float64)
    labels = torch.randn(count, 1, dtype=torch.float64)
    eye = torch.eye(width, dtype=torch.float64)

    def fit(kept: torch.Tensor) -> torch.Tensor:
        moment = features[kept].T @ features[kept] / count + damping * eye
        return torch.linalg.solve(moment, features[kept].T @ labels[kept] / count).squeeze(1)

    everything = torch.arange(count)
    weights = fit(everything)
    model = Network(nn.Linear(width, 1, bias=False), SquaredLoss()).double()
    with torch.no_grad():
        model.layers.weight.copy_(weights[None])  # type: ignore[operator]
    scope = select_scope(model, ["*"])
    batch = Rows(features, labels)
    v = torch.randn(width, dtype=torch.float64)
    curvature = LocalCurvature(model, scope, [[batch]])
    for settings in (SolverSettings("exact", damping), SolverSettings("cg", damping, tolerance=1e-14)):
        h = solve_direction(settings, curvature, v, scope).direction
        scores = directional_derivatives(model, scope, h, batch)
        inverse = torch.linalg.inv(features.T @ features / count + damping * eye)
        leverage = torch.einsum("ni,ij,nj->n", features, inverse, features) / count
        left_out = torch.stack([fit(everything[everything != row]) - weights for row in range(count)])
        torch.testing.assert_close(scores / (1 - leverage), count * left_out @ v, rtol=1e-10, atol=1e-10)


def test_a_helpful_sample_scores_above_zero() -> None:
    """Two samples agree and one contradicts them: removing the contradiction lowers the risk of the rest."""
    features = torch.ones(3, 1, dtype=torch.float64)
    labels = torch.tensor([[1.0], [1.0], [-1.0]], dtype=torch.float64)
    model = Network(nn.Linear(1, 1, bias=False), SquaredLoss()).double()
    with torch.no_grad():
        model.layers.weight.fill_(1 / 3)  # type: ignore[operator]
    scope = select_scope(model, ["*"])
    good = Rows(features[:2], labels[:2])
    v = mean_loss_gradient_sum(model, scope, [good])[0] / 2
    curvature = LocalCurvature(model, scope, [[Rows(features, labels)]])
    h = solve_direction(SolverSettings("exact", 0.01), curvature, v, scope).direction
    scores = influence_scores(model, scope, h, Rows(features, labels))
    assert scores[0] > 0
    assert scores[2] < 0


def test_lissa_is_scaled_exact_in_the_limit() -> None:
    case = sasrec_case()
    total, count = mean_loss_gradient_sum(case.objective, case.scope, case.batches)
    matrix = LocalCurvature(case.objective, case.scope, [case.batches]).matrix()
    scale = float(torch.linalg.eigvalsh(matrix)[-1])
    curvature = LocalCurvature(case.objective, case.scope, [case.batches])

    class WholeSteps(LocalCurvature):
        def step_products(self, steps: int) -> Any:
            return (lambda x: matrix @ x for _ in range(steps))

    steps = WholeSteps(case.objective, case.scope, [case.batches])
    settings = SolverSettings("lissa", lissa_damp=0.05, lissa_scale=scale, lissa_steps=500)
    found = solve_direction(settings, steps, total / count, case.scope)
    expected = solve_direction(SolverSettings("exact", 0.05 * scale), curvature, total / count, case.scope)
    torch.testing.assert_close(found.direction, scale * expected.direction, rtol=1e-6, atol=1e-8)


def test_unknown_solvers_and_empty_curvature_are_refused() -> None:
    with pytest.raises(SettingError, match="none, lissa, exact, cg, ekfac"):
        SolverSettings("newton")  # type: ignore[arg-type]
    case = sasrec_case()
    with pytest.raises(SettingError, match="no sample"):
        LocalCurvature(case.objective, case.scope, []).product(torch.zeros(case.scope.size))
