"""The influence of removing a sample on the risk: I(s) = vᵀ(H + λI)⁻¹∇ℓ(s) (Koh and Liang, ICML 2017).

Positive means that removing s raises the risk, by I(s)/N to first order: s helps. One solve h = (H + λI)⁻¹v
serves all samples; each then costs one directional derivative ⟨∇ℓ(s), h⟩. How sums over samples are made, in
one process or over many workers, is the business of the `Curvature` that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any, Protocol

import torch
from torch import Tensor

from scoring.curvature import gauss_newton_matrix_sum, gauss_newton_product_sum
from scoring.exceptions import SettingError
from scoring.gradients import finite_batches
from scoring.kronecker import (
    KroneckerBasis,
    LayerSums,
    LinearLayer,
    eigenvalue_sums,
    kronecker_basis,
    kronecker_factor_sums,
    linear_layers,
)
from scoring.objective import Differentiable, prepare_batches
from scoring.scope import Scope
from scoring.solver_settings import SolverSettings
from scoring.solvers import Eigensystem, Product, Solution, solve_cg, solve_ekfac, solve_exact, solve_lissa

#: Parameters above which the dense matrix and its eigenvectors take gigabytes and its eigenvalues hours.
MAX_EXACT = 10_000


class Curvature(Protocol):
    """Means over the curvature samples, wherever they are computed."""

    def product(self, x: Tensor) -> Tensor:
        """Return Hx, float64 [P]."""

    def step_products(self, steps: int) -> Iterator[Product]:
        """Return the products x ↦ Hₜx, each on a part of the samples, for `lissa`."""

    def matrix(self) -> Tensor:
        """Return H, float64 [P, P]."""

    def kronecker_factors(self) -> LayerSums:
        """See `kronecker_factor_sums`."""

    def kronecker_eigenvalues(self, basis: KroneckerBasis) -> LayerSums:
        """See `eigenvalue_sums`."""


class LocalCurvature:
    """Curvature over batches held in this process.

    Parameters
    ----------
    objective, scope : what is differentiated, and in what.
    chunks : the curvature samples, in batches, cut into the steps of `lissa`; those without a finite gradient are
        left out.
    prepare : compute ahead what does not change between products, at 4d² bytes and the states of a sample.
    """

    def __init__(
        self, objective: Differentiable, scope: Scope, chunks: Iterable[Iterable[Any]], prepare: bool = True
    ) -> None:
        self.objective = objective
        self.scope = scope
        self._prepare = prepare
        self._chunks = [chunk for chunk in map(self._ready, chunks) if chunk]
        self.batches = [batch for chunk in self._chunks for batch in chunk]

    def _ready(self, batches: Iterable[Any]) -> list[Any]:
        finite = finite_batches(self.objective, self.scope, batches)
        return prepare_batches(self.objective, finite, curvature=True) if self._prepare else list(finite)

    def product(self, x: Tensor) -> Tensor:
        return _mean(gauss_newton_product_sum(self.objective, self.scope, x, self.batches))

    def step_products(self, steps: int) -> Iterator[Product]:
        for chunk in islice(cycle(self._chunks), steps):
            yield partial(self._chunk_product, chunk)

    def _chunk_product(self, chunk: Sequence[Any], x: Tensor) -> Tensor:
        return _mean(gauss_newton_product_sum(self.objective, self.scope, x, chunk))

    def matrix(self) -> Tensor:
        return _mean(gauss_newton_matrix_sum(self.objective, self.scope, self.batches))

    def kronecker_factors(self) -> LayerSums:
        return kronecker_factor_sums(self.objective, self.scope, self.batches)

    def kronecker_eigenvalues(self, basis: KroneckerBasis) -> LayerSums:
        return eigenvalue_sums(self.objective, self.scope, basis, self.batches)


def solve_direction(
    settings: SolverSettings,
    curvature: Curvature,
    v: Tensor,
    scope: Scope,
    layers: tuple[LinearLayer, ...] = (),
) -> Solution:
    """Solve h = (H + λI)⁻¹v by the solver asked for; `lissa` returns the value of its recursion.

    Parameters
    ----------
    v : the gradient of the train or of the validation risk, float64 [P].
    layers : `linear_layers(objective, scope)`, for `ekfac` alone.

    Raises
    ------
    NotConvergedError, NonFiniteError, SettingError : see the solvers.
    """
    if settings.solver == "cg":
        return solve_cg(curvature.product, v, settings.damping, settings.tolerance, settings.max_iterations)
    if settings.solver == "exact":
        return solve_exact(eigensystem(curvature, scope), v, settings.damping)
    if settings.solver == "lissa":
        steps = curvature.step_products(settings.lissa_steps)
        return solve_lissa(steps, v, settings.lissa_damp, settings.lissa_scale, curvature.product)
    if settings.solver == "ekfac":
        return solve_ekfac(scope, layers, *kronecker_system(curvature), v, settings.damping)
    return Solution(v.to(torch.float64), None, 0)


def eigensystem(curvature: Curvature, scope: Scope) -> Eigensystem:
    """Decompose the curvature's dense matrix. Raises SettingError for a scope too large for one."""
    check_exact(scope)
    return Eigensystem.of(curvature.matrix())


def kronecker_system(curvature: Curvature) -> tuple[KroneckerBasis, LayerSums]:
    """Compute the eigenbasis of the Kronecker factors and the eigenvalues in it, which serve every damping."""
    basis = kronecker_basis(curvature.kronecker_factors())
    return basis, curvature.kronecker_eigenvalues(basis)


def check_exact(scope: Scope) -> None:
    """Raise SettingError for a scope that is too large for a dense matrix."""
    if scope.size > MAX_EXACT:
        raise SettingError(
            f"solver exact takes scopes of at most {MAX_EXACT:,} parameters, and this one has {scope.size:,}; "
            "take a smaller scope (last_layer) or solver cg"
        )


def _mean(sums: tuple[Tensor, int]) -> Tensor:
    total, count = sums
    if count == 0:
        raise SettingError("there is no sample to take the curvature over")
    return total / count


__all__ = [
    "Curvature",
    "LocalCurvature",
    "check_exact",
    "eigensystem",
    "kronecker_system",
    "linear_layers",
    "solve_direction",
]
