from __future__ import annotations

from typing import Any

import pytest
import torch

from scoring.curvature import gauss_newton_matrix_sum, gauss_newton_product_sum
from tests.scoring.cases import CASES, Case, dense_gauss_newton

TIGHT: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-9}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]()


def test_products_and_matrix_equal_the_dense_reference(case: Case) -> None:
    dense = dense_gauss_newton(case)
    x = torch.randn(case.scope.size, dtype=torch.float64)
    product, count = gauss_newton_product_sum(case.objective, case.scope, x, case.batches)
    assert count == sum(len(batch[0]) for batch in case.batches)
    torch.testing.assert_close(product, dense @ x, **TIGHT)
    stacked = gauss_newton_product_sum(case.objective, case.scope, torch.stack([x, -2 * x]), case.batches)[0]
    torch.testing.assert_close(stacked, torch.stack([product, -2 * product]), **TIGHT)
    matrix, same_count = gauss_newton_matrix_sum(case.objective, case.scope, case.batches)
    assert same_count == count
    torch.testing.assert_close(matrix, dense, **TIGHT)


@pytest.mark.parametrize("name", ["linear-softmax", "mlp-last-layer"])
def test_it_is_the_hessian_where_outputs_are_linear(name: str) -> None:
    case = CASES[name]()
    named = dict(case.objective.named_parameters())

    def risk(vector: torch.Tensor) -> torch.Tensor:
        values = named | case.scope.unflatten(vector)
        total = torch.zeros((), dtype=torch.float64)
        for batch in case.batches:
            layers = {key.removeprefix("layers."): value for key, value in values.items()}
            outputs = torch.func.functional_call(case.objective.layers, layers, (batch.features,))
            total = total + case.objective.criterion.loss(outputs, batch).sum()
        return total

    at = case.scope.flatten(named)
    hessian = torch.autograd.functional.hessian(risk, at)
    matrix, _ = gauss_newton_matrix_sum(case.objective, case.scope, case.batches)
    torch.testing.assert_close(matrix, hessian, **TIGHT)


def test_sums_add_over_shards(case: Case) -> None:
    whole, count = gauss_newton_matrix_sum(case.objective, case.scope, case.batches)
    parts = [gauss_newton_matrix_sum(case.objective, case.scope, [batch]) for batch in case.batches]
    assert sum(number for _, number in parts) == count
    torch.testing.assert_close(torch.stack([matrix for matrix, _ in parts]).sum(0), whole, **TIGHT)


def test_it_is_positive_semi_definite(case: Case) -> None:
    matrix, _ = gauss_newton_matrix_sum(case.objective, case.scope, case.batches)
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] > -1e-10 * values[-1]


def test_few_directions_at_a_time_change_nothing() -> None:
    case = CASES["mlp-softmax"]()
    expected, _ = gauss_newton_matrix_sum(case.objective, case.scope, case.batches)
    found, _ = gauss_newton_matrix_sum(case.objective, case.scope, case.batches, outputs_at_once=40)
    torch.testing.assert_close(found, expected, **TIGHT)
