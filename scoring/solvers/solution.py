"""What a solver returns, and how far it is from solving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoring.errors import NonFiniteError, SettingError

Product = Callable[[Tensor], Tensor]
"""x float64 [P] ↦ Hx float64 [P]."""


@dataclass(frozen=True, eq=False)
class Solution:
    """h of (H + λI)h = v.

    Attributes
    ----------
    direction : h, float64 [P].
    residual : ‖(H + λI)h − v‖ / ‖v‖ against the solver's own operator; None where none was given to measure
        it by.
    iterations : products spent.
    """

    direction: Tensor
    residual: float | None
    iterations: int


def relative_residual(product: Product, direction: Tensor, v: Tensor, damping: float) -> float:
    """‖(H + λI)h − v‖ / ‖v‖; 0 for v = 0 and h = 0."""
    error = float(torch.linalg.vector_norm(product(direction) + damping * direction - v))
    scale = float(torch.linalg.vector_norm(v))
    if scale == 0:
        return 0.0 if error == 0 else float("inf")
    return error / scale


def checked(v: Tensor, damping: float) -> Tensor:
    """v as float64 [P].

    Raises
    ------
    SettingError : damping negative or not finite. NonFiniteError : v holds NaN or infinity.
    """
    if not 0 <= damping < float("inf"):
        raise SettingError(f"damping must be 0 or more and finite, not {damping}")
    if not bool(torch.isfinite(v).all()):
        raise NonFiniteError("the gradient of the risk holds values that are not finite")
    return v.to(torch.float64)
