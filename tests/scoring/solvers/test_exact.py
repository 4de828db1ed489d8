from __future__ import annotations

import pytest
import torch

from scoring.exceptions import NonFiniteError, SettingError
from scoring.solvers.exact import Eigensystem, solve_exact
from tests.scoring.solvers.systems import solution, system


@pytest.mark.parametrize("damping", [1e-6, 0.1, 10.0])
def test_one_decomposition_serves_every_damping(damping: float) -> None:
    matrix, v = system(rank=7)
    system_of = Eigensystem.of(matrix)
    torch.testing.assert_close(system_of.solve(v, damping), solution(matrix, v, damping), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_residual_is_rounding_for_each_of_a_stack(rows: int) -> None:
    matrix, v = system()
    stack = torch.stack([v + row for row in range(rows)])
    found = solve_exact(Eigensystem.of(matrix), stack, 0.1)
    expected = torch.stack([solution(matrix, row, 0.1) for row in stack])
    torch.testing.assert_close(found.direction, expected, rtol=1e-8, atol=1e-8)
    assert found.residual is not None
    assert found.residual < 1e-12


def test_a_singular_system_is_refused() -> None:
    matrix, v = system(rank=5)
    singular = Eigensystem.of(matrix)
    with pytest.raises(SettingError, match="larger damping"):
        solve_exact(singular, v, 0.0)


def test_a_matrix_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        Eigensystem.of(torch.full((2, 2), float("nan")))
