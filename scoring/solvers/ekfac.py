"""Solving in the eigenbasis of Kronecker-factored curvature (George et al., 2018; Grosse et al., 2023)."""

from __future__ import annotations

from torch import Tensor

from scoring.exceptions import SettingError
from scoring.kronecker import KroneckerBasis, LayerSums, LinearLayer
from scoring.scope import Scope
from scoring.solvers.solution import Solution, checked


def solve_ekfac(
    scope: Scope,
    layers: tuple[LinearLayer, ...],
    basis: KroneckerBasis,
    eigenvalues: LayerSums,
    v: Tensor,
    damping: float,
) -> Solution:
    """Return (Ĥ + λI)⁻¹v for v [..., P], with the block-diagonal Ĥ of the given basis and mean eigenvalues, in float64.

    For each layer, this computes V ↦ Q_out [(Q_outᵀ V Q_in) / (Λ + λ)] Q_inᵀ. It solves its own operator exactly, so
    no residual is measured. Use `relative_residual` to measure one against the Gauss-Newton products.

    Raises
    ------
    SettingError : λ = 0 and an eigenvalue is 0.
    """
    parts = scope.unflatten(checked(v, damping))
    solved: dict[str, Tensor] = {}
    for layer in layers:
        damped = eigenvalues.mean(layer.name) + damping
        if not float(damped.min()) > 0:
            raise SettingError(f"the curvature of {layer.name} is singular; set a damping above 0")
        outward, inward = basis.outputs[layer.name], basis.inputs[layer.name]
        turned = outward.T @ layer.matrix(parts) @ inward / damped
        solved |= layer.parameters(outward @ turned @ inward.T)
    return Solution(scope.flatten(solved), None, 0)
