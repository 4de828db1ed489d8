"""What a solver returns, and how far it is from solving."""

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
    """h of (H + λI)h = v.

    Attributes
    ----------
    direction : h, float64, of the shape of v: [P], or [K, P] for K right-hand sides.
    residual : ‖(H + λI)h − v‖ / ‖v‖ against the solver's own operator, the largest of the K; None where none was
        given to measure it by.
    iterations : products spent; a product with a stack counts once.
    """

    direction: Tensor
    residual: float | None
    iterations: int


def relative_residual(product: Product, direction: Tensor, v: Tensor, damping: float) -> float:
    """‖(H + λI)h − v‖ / ‖v‖, the largest of the rows of a stack; 0 for v = 0 and h = 0."""
    error = torch.linalg.vector_norm(product(direction) + damping * direction - v, dim=-1)
    scale = torch.linalg.vector_norm(v, dim=-1)
    # 0 / 0 is a solved system; anything else over 0 is infinite by itself.
    return float(torch.where(error == 0, 0.0, error / scale).max())


def checked(v: Tensor, damping: float) -> Tensor:
    """v as float64 [..., P].

    Raises
    ------
    SettingError : damping negative or not finite. NonFiniteError : v holds NaN or infinity.
    """
    if not 0 <= damping < float("inf"):
        raise SettingError(f"damping must be 0 or more and finite, not {damping}")
    if not bool(torch.isfinite(v).all()):
        raise NonFiniteError("the gradient of the risk holds values that are not finite")
    return v.to(torch.float64)
