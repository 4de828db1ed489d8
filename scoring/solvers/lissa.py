"""LiSSA, a truncated stochastic Neumann series (Agarwal, Bullins and Hazan, JMLR 2017)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from scoring.exceptions import NotConvergedError, SettingError
from scoring.solvers.solution import Product, Solution, checked, relative_residual


def solve_lissa(
    products: Iterable[Product],
    v: Tensor,
    damp: float = 0.01,
    scale: float = 25.0,
    whole: Product | None = None,
) -> Solution:
    """Iterate h ← v + (1 − damp) h − Hₜh / scale from h = v, once per product.

    With Hₜ = H, the fixed point is scale · (H + damp·scale·I)⁻¹ v, which is `scale` times the solution for the damping
    `damp · scale`. The iteration contracts if every eigenvalue of Hₜ is below scale · (2 − damp).

    Parameters
    ----------
    products : x ↦ Hₜx, one per step, each on a sample or batch of the curvature samples.
    v : [P], or [K, P] for recursions that share their samples.
    whole : x ↦ Hx on all curvature samples, to measure the residual of h / scale; None skips the measurement.

    Raises
    ------
    SettingError : damp is outside [0, 1] or scale is not positive.
    NotConvergedError : the recursion diverged.
    """
    if not (0 <= damp <= 1 and 0 < scale < float("inf")):
        raise SettingError(f"lissa needs damp in [0, 1] and a positive scale, got {damp} and {scale}")
    v = checked(v, damp * scale)
    bound = 1e12 * float(torch.linalg.vector_norm(v))
    direction = v.clone()
    steps = 0
    for product in products:
        direction = v + (1 - damp) * direction - product(direction) / scale
        steps += 1
        if not float(torch.linalg.vector_norm(direction)) <= bound:
            raise NotConvergedError(
                f"lissa diverged after {steps} steps at a scale of {scale:g}; "
                "set one above the largest curvature of a sample",
                float("inf"),
                steps,
            )
    residual = None if whole is None else relative_residual(whole, direction / scale, v, damp * scale)
    return Solution(direction, residual, steps)
