"""The dense solver: one eigendecomposition, after which each damping costs two products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scoring.exceptions import NonFiniteError, SettingError
from scoring.solvers.solution import Solution, checked, relative_residual


@dataclass(frozen=True, eq=False)
class Eigensystem:
    """The eigendecomposition H = U diag(w) Uᵀ.

    Attributes
    ----------
    matrix : H, float64 [P, P].
    values : w, float64 [P], ascending.
    vectors : U, float64 [P, P], in columns.
    """

    matrix: Tensor
    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Eigensystem:
        """Decompose a symmetric matrix [P, P]. Raises `NonFiniteError` if it contains NaN or infinity."""
        if not bool(torch.isfinite(matrix).all()):
            raise NonFiniteError("the curvature matrix contains values that are not finite")
        dense = matrix.to(torch.float64)
        return cls(dense, *torch.linalg.eigh(dense))

    def solve(self, v: Tensor, damping: float) -> Tensor:
        """Return (H + λI)⁻¹v, float64 [..., P]. Raises `SettingError` if H + λI is not positive definite."""
        v = checked(v, damping)
        damped = self.values + damping
        if float(damped[0]) <= torch.finfo(torch.float64).eps * float(damped[-1]):
            raise SettingError(
                f"the curvature with damping {damping:g} is singular: "
                f"its smallest eigenvalue is {float(damped[0]):.2e}; set a larger damping"
            )
        return ((v @ self.vectors) / damped) @ self.vectors.T


def solve_exact(system: Eigensystem, v: Tensor, damping: float) -> Solution:
    """Return (H + λI)⁻¹v for v [..., P], in float64, with its residual against H itself."""
    direction = system.solve(v, damping)
    residual = relative_residual(lambda x: x @ system.matrix, direction, v.to(torch.float64), damping)
    return Solution(direction, residual, 0)
