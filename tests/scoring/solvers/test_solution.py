from __future__ import annotations

import pytest
import torch

from scoring.exceptions import NonFiniteError, SettingError
from scoring.solvers.solution import checked, relative_residual
from tests.scoring.solvers.systems import solution, system


def test_residual_of_a_solution_and_of_none() -> None:
    matrix, v = system()
    assert relative_residual(lambda x: matrix @ x, solution(matrix, v, 0.5), v, 0.5) < 1e-12
    assert relative_residual(lambda x: matrix @ x, torch.zeros_like(v), v, 0.5) == 1
    zero = torch.zeros_like(v)
    assert relative_residual(lambda x: matrix @ x, zero, zero, 0.5) == 0
    assert relative_residual(lambda x: matrix @ x, v, zero, 0.5) == float("inf")


@pytest.mark.parametrize("damping", [-0.1, float("nan"), float("inf")])
def test_bad_dampings_are_refused(damping: float) -> None:
    with pytest.raises(SettingError, match="damping"):
        checked(torch.ones(2), damping)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        checked(torch.tensor([1.0, float("nan")]), 0.1)
