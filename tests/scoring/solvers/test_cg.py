from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.exceptions import NonFiniteError, NotConvergedError
from scoring.solvers.cg import solve_cg
from tests.scoring.solvers.systems import solution, system


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 15), st.floats(1e-3, 10), st.integers(0, 50))
def test_it_equals_the_dense_solve(size: int, damping: float, seed: int) -> None:
    matrix, v = system(size, rank=max(1, size // 2), seed=seed)
    found = solve_cg(lambda x: matrix @ x, v, damping, tolerance=1e-11)
    torch.testing.assert_close(found.direction, solution(matrix, v, damping), rtol=1e-7, atol=1e-9)
    assert found.residual is not None
    assert found.residual < 1e-10


def test_systems_that_share_their_products_are_solved_each_by_itself() -> None:
    matrix, v = system(20, 12)
    stack = torch.stack([v, torch.zeros_like(v), v.flip(0), 1e-3 * v])
    found = solve_cg(lambda x: x @ matrix, stack, 0.1, tolerance=1e-11)
    expected = torch.stack([solution(matrix, row, 0.1) for row in stack])
    torch.testing.assert_close(found.direction, expected, rtol=1e-7, atol=1e-10)
    assert found.residual is not None
    assert found.residual < 1e-10


def test_the_residual_meets_the_tolerance_in_few_products() -> None:
    matrix, v = system(40, 40)
    products = 0

    def product(x: torch.Tensor) -> torch.Tensor:
        nonlocal products
        products += 1
        return matrix @ x

    found = solve_cg(product, v, 0.5, tolerance=1e-3)
    assert found.residual is not None
    assert found.residual <= 1e-3
    assert products == found.iterations + 1
    assert found.iterations < 40


def test_running_out_of_iterations_is_an_error_with_the_residual() -> None:
    matrix, v = system(40, 40)
    with pytest.raises(NotConvergedError, match="after 3 iterations") as caught:
        solve_cg(lambda x: matrix @ x, v, 1e-3, tolerance=1e-8, max_iterations=3)
    assert caught.value.iterations == 3
    assert caught.value.residual > 1e-8


def test_an_answer_that_rounding_spoils_is_an_error() -> None:
    """The recursion reaches a small residual whatever precision the products have lost."""
    matrix, v = system(40, 20)

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return (matrix.float() @ x.float()).double()

    with pytest.raises(NotConvergedError, match="the precision of the products") as caught:
        solve_cg(rounded, v, 1e-5)
    assert caught.value.residual > 1e-3


def test_a_singular_or_indefinite_curvature_is_an_error() -> None:
    with pytest.raises(NotConvergedError, match="damping above 0"):
        solve_cg(torch.zeros_like, torch.ones(3), 0.0)
    with pytest.raises(NotConvergedError, match="damping above"):
        solve_cg(lambda x: -2 * x, torch.ones(3), 1.0)
    with pytest.raises(NonFiniteError, match="the curvature contains values"):
        solve_cg(lambda x: x * float("nan"), torch.ones(3), 1.0)


def test_nothing_to_solve() -> None:
    found = solve_cg(lambda x: x, torch.zeros(3), 0.1)
    assert found.iterations == 0
    assert found.residual == 0
    assert (found.direction == 0).all()
