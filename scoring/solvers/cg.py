"""Conjugate gradients on a matrix known by its products (Hestenes and Stiefel, 1952)."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.exceptions import NonFiniteError, NotConvergedError
from scoring.solvers.solution import Product, Solution, checked, relative_residual

#: Of an answer that may be used, whatever tolerance was asked for.
_WORST_RESIDUAL = 1e-3


def solve_cg(
    product: Product, v: Tensor, damping: float, tolerance: float = 1e-6, max_iterations: int = 500
) -> Solution:
    """h with ‖(H + λI)h − v‖ ≤ tolerance · ‖v‖, in float64.

    Parameters
    ----------
    product : x ↦ Hx, H symmetric and positive semi-definite.
    v : [P], or [K, P] for systems that share their products; each has steps of its own.
    damping : λ ≥ 0; the condition number is at most (‖H‖ + λ)/λ and the iterations grow with its root.
    tolerance : of the relative residual as the recursion carries it on. It is measured once more on the answer, where
        products of single precision may leave it higher; above 10⁻³ and ten times the tolerance, that is an error.
    max_iterations : products at most.

    Raises
    ------
    NotConvergedError : out of iterations, the damped curvature is not positive along a search direction, or the answer
        is further off than the recursion says.
    NonFiniteError : v or a product holds NaN or infinity.
    """
    v = checked(v, damping)
    direction = torch.zeros_like(v)
    residual = v.clone()
    search = residual.clone()
    energy = _squares(residual)
    goal = tolerance**2 * energy
    iterations = 0
    while bool((active := energy > goal).any()):
        if iterations == max_iterations:
            raise _not_converged(energy, v, iterations, "more iterations, a larger damping or a looser tolerance")
        curved = product(search) + damping * search
        steepness = (search * curved).sum(-1, keepdim=True)
        iterations += 1
        if bool(torch.isfinite(search).all()) and not bool(torch.isfinite(curved).all()):
            raise NonFiniteError("the curvature holds values that are not finite")
        if not bool((steepness > 0)[active].all()):
            raise _not_converged(energy, v, iterations, f"a damping above {damping:g}: the curvature is singular")
        # A system that is solved stays where it is while others go on.
        step = torch.where(active, energy / steepness, 0.0)
        direction += step * search
        residual -= step * curved
        previous, energy = energy, _squares(residual)
        search = residual + torch.where(active, energy / previous, 0.0) * search
    measured = relative_residual(product, direction, v, damping)
    if measured > max(_WORST_RESIDUAL, 10 * tolerance):
        raise NotConvergedError(
            f"conjugate gradients end at a residual of {measured:.2e}, which the precision of the products allows; try "
            f"a damping above {damping:g}",
            measured,
            iterations,
        )
    return Solution(direction, measured, iterations)


def _squares(rows: Tensor) -> Tensor:
    """‖·‖² of each row, [..., 1]."""
    return rows.square().sum(-1, keepdim=True)


def _not_converged(energy: Tensor, v: Tensor, iterations: int, remedy: str) -> NotConvergedError:
    residual = float((energy / _squares(v)).nan_to_num(0.0).max()) ** 0.5
    return NotConvergedError(
        f"conjugate gradients stopped after {iterations} iterations at a residual of {residual:.2e}; try {remedy}",
        residual,
        iterations,
    )
