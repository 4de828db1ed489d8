from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from scoring.curvature import gauss_newton_matrix_sum
from scoring.exceptions import SettingError
from scoring.kronecker import eigenvalue_sums, kronecker_basis, kronecker_factor_sums, linear_layers
from scoring.losses import SoftmaxLoss
from scoring.scope import select_scope
from scoring.solvers.ekfac import solve_ekfac
from scoring.solvers.exact import Eigensystem, solve_exact
from scoring.solvers.solution import Solution
from tests.scoring.cases import CASES, Case, Network, Rows, SquaredLoss, label_column


def solve(case: Case, v: torch.Tensor, damping: float) -> Solution:
    objective, scope = case.objective, case.scope
    basis = kronecker_basis(kronecker_factor_sums(objective, scope, case.batches))
    eigenvalues = eigenvalue_sums(objective, scope, basis, case.batches)
    return solve_ekfac(scope, linear_layers(objective, scope), basis, eigenvalues, v, damping)


def exact(case: Case, v: torch.Tensor, damping: float) -> torch.Tensor:
    matrix, count = gauss_newton_matrix_sum(case.objective, case.scope, case.batches)
    return solve_exact(Eigensystem.of(matrix / count), v, damping).direction


def one_layer(criterion: Any, labels: torch.Tensor, bias: bool, scale: float = 1.0) -> Case:
    torch.manual_seed(0)
    model = Network(nn.Linear(5, 3, bias=bias), criterion).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    features = torch.randn(len(labels), 5, dtype=torch.float64)
    half = len(labels) // 2
    batches = [Rows(features[:half], labels[:half]), Rows(features[half:], labels[half:])]
    return Case(model, select_scope(model, ["*"]), batches)


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_exact_for_one_linear_layer_under_squared_loss(bias: bool) -> None:
    """In this case the Gauss-Newton matrix is the Kronecker product of Σ xxᵀ and the identity."""
    case = one_layer(SquaredLoss(), torch.randn(40, 3, dtype=torch.float64), bias)
    v = torch.randn(case.scope.size, dtype=torch.float64)
    found = solve(case, v, 0.1).direction
    torch.testing.assert_close(found, exact(case, v, 0.1), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(solve(case, torch.stack([v, -2 * v]), 0.1).direction, torch.stack([found, -2 * found]))


def test_it_is_close_where_curvature_hardly_depends_on_the_input() -> None:
    """With small weights, probabilities are nearly uniform, so the matrix is nearly a Kronecker product."""
    labels = torch.randint(0, 3, (200,))
    close, far = (one_layer(SoftmaxLoss(label_column), labels, True, scale) for scale in (0.02, 6.0))
    v = torch.randn(close.scope.size, dtype=torch.float64)

    def error(case: Case) -> float:
        reference = exact(case, v, 0.05)
        return float((solve(case, v, 0.05).direction - reference).norm() / reference.norm())

    assert error(close) < 0.01
    assert error(close) < error(far) < 1


def test_layers_are_solved_apart() -> None:
    """With the v of a single layer, no other layer changes."""
    case = CASES["mlp-squared"]()
    v = torch.zeros(case.scope.size, dtype=torch.float64)
    v[case.scope.span("layers.0.weight")] = 1
    direction = solve(case, v, 0.1).direction
    assert (direction[case.scope.span("layers.2.weight")] == 0).all()
    assert (direction[case.scope.span("layers.0.weight")] != 0).any()


def test_no_damping_needs_full_rank() -> None:
    case = one_layer(SquaredLoss(), torch.randn(4, 3, dtype=torch.float64), True)
    v = torch.ones(case.scope.size, dtype=torch.float64)
    with pytest.raises(SettingError, match="damping above 0"):
        solve(Case(case.objective, case.scope, [_zeros(batch) for batch in case.batches]), v, 0.0)


def _zeros(batch: Rows) -> Rows:
    return batch._replace(features=torch.zeros_like(batch.features))
