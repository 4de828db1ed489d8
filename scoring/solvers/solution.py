"""The result of a solver, and its residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoring.exceptions import NonFiniteError, SettingError

Product = Callable[[Tensor], Tensor]
"""x float64 [P] ↦ Hx float64 [P]; for stacks of right-hand sides [K, P] ↦ [K, P], row by row."""


@dataclass(frozen=True, eq=False)
class Solution:
    """The solution h of (H + λI)h = v.

    Attributes
    ----------
    direction : h, float64, in the shape of v: [P], or [K, P] for K right-hand sides.
    residual : ‖(H + λI)h − v‖ / ‖v‖ against the solver's own operator, the maximum over the K; None if there was
        nothing to measure it with.
    iterations : number of products; a product with a stack counts once.
    """

    direction: Tensor
    residual: float | None
    iterations: int


def relative_residual(product: Product, direction: Tensor, v: Tensor, damping: float) -> float:
    """Return ‖(H + λI)h − v‖ / ‖v‖, the maximum over the rows of a stack; 0 for v = 0 and h = 0."""
    error = torch.linalg.vector_norm(product(direction) + damping * direction - v, dim=-1)
    scale = torch.linalg.vector_norm(v, dim=-1)
    # 0 / 0 is a solved system; anything else divided by 0 is infinite as it should be.
    return float(torch.where(error == 0, 0.0, error / scale).max())


def checked(v: Tensor, damping: float) -> Tensor:
    """Return v as float64 [..., P].

    Raises
    ------
    SettingError : damping is negative or not finite.
    NonFiniteError : v contains NaN or infinity.
    """
    if not 0 <= damping < float("inf"):
        raise SettingError(f"damping must be finite and at least 0, got {damping}")
    if not bool(torch.isfinite(v).all()):
        raise NonFiniteError("the gradient of the risk contains values that are not finite")
    return v.to(torch.float64)
