"""Conjugate gradients on a matrix given by its products (Hestenes and Stiefel, 1952)."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.exceptions import NonFiniteError, NotConvergedError
from scoring.solvers.solution import Product, Solution, checked, relative_residual

#: The largest residual of a usable solution, whatever tolerance was asked for.
_WORST_RESIDUAL = 1e-3


def solve_cg(
    product: Product, v: Tensor, damping: float, tolerance: float = 1e-6, max_iterations: int = 500
) -> Solution:
    """Solve for h with ‖(H + λI)h − v‖ ≤ tolerance · ‖v‖, in float64.

    Parameters
    ----------
    product : x ↦ Hx, with H symmetric and positive semi-definite.
    v : [P], or [K, P] for systems that share their products; each takes steps of its own.
    damping : λ ≥ 0; the condition number is at most (‖H‖ + λ)/λ, and the iterations grow with its square root.
    tolerance : bound on the relative residual in the recursion. The residual is measured once more on the solution,
        where single-precision products may leave it higher. Above 10⁻³ and ten times the tolerance, that is an error.
    max_iterations : maximum number of products.

    Raises
    ------
    NotConvergedError : out of iterations, or the damped curvature is not positive along a search direction, or the
        measured residual is larger than the recursion claims.
    NonFiniteError : v or a product contains NaN or infinity.
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
            raise NonFiniteError("the curvature contains values that are not finite")
        if not bool((steepness > 0)[active].all()):
            raise _not_converged(energy, v, iterations, f"a damping above {damping:g}: the curvature is singular")
        # A solved system stays unchanged while others continue.
        step = torch.where(active, energy / steepness, 0.0)
        direction += step * search
        residual -= step * curved
        previous, energy = energy, _squares(residual)
        search = residual + torch.where(active, energy / previous, 0.0) * search
    measured = relative_residual(product, direction, v, damping)
    if measured > max(_WORST_RESIDUAL, 10 * tolerance):
        raise NotConvergedError(
            f"conjugate gradients ended at a residual of {measured:.2e}, limited by the precision of the products; try "
            f"a damping above {damping:g}",
            measured,
            iterations,
        )
    return Solution(direction, measured, iterations)


def _squares(rows: Tensor) -> Tensor:
    """Return ‖·‖² of each row, [..., 1]."""
    return rows.square().sum(-1, keepdim=True)


def _not_converged(energy: Tensor, v: Tensor, iterations: int, remedy: str) -> NotConvergedError:
    residual = float((energy / _squares(v)).nan_to_num(0.0).max()) ** 0.5
    return NotConvergedError(
        f"conjugate gradients stopped after {iterations} iterations at a residual of {residual:.2e}; try {remedy}",
        residual,
        iterations,
    )
