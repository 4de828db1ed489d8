"""The generalised Gauss-Newton matrix of the empirical risk, as sums over samples that shards can add.

H = (1/N) Σₛ Jₛᵀ ∇²ℓ(zₛ) Jₛ, with Jₛ the Jacobian of sample s's outputs zₛ in the parameters in scope
(Martens, JMLR 2020, section 8). It is positive semi-definite for a loss that is convex in z, and equals the
Hessian where the outputs are linear in the scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from scoring.gradients import like
from scoring.objective import (
    Differentiable,
    Parameters,
    batch_rows,
    evaluation,
    outputs_function,
    scope_parameters,
)
from scoring.scope import Scope

_DIRECTIONS_AT_ONCE = 32
_OUTPUTS_AT_ONCE = 1 << 25


def gauss_newton_product_sum(
    objective: Differentiable,
    scope: Scope,
    x: Tensor,
    batches: Iterable[Any],
    outputs_at_once: int = _OUTPUTS_AT_ONCE,
) -> tuple[Tensor, int]:
    """Return Σ over samples of Jᵀ∇²ℓ(z)J x, and the number of samples.

    Parameters
    ----------
    x : [P], or [K, P]: K products that share the linearisation of the samples.
    outputs_at_once : outputs of samples, moved along several directions, that exist at once.

    Returns
    -------
    float64 of the shape of x, on the CPU, and the count.
    """
    total = torch.zeros(x.shape, dtype=torch.float64)
    count = 0
    with evaluation(objective):
        parameters = scope_parameters(objective, scope)
        tangents = like(scope.unflatten(x), parameters)
        for batch in batches:
            product, width = _linearised(objective, scope, parameters, batch, outputs_at_once)
            apply = product if x.ndim == 1 else torch.func.vmap(product, chunk_size=width)
            total += scope.flatten(apply(tangents)).cpu()
            count += batch_rows(batch)
    return total, count


def gauss_newton_matrix_sum(
    objective: Differentiable, scope: Scope, batches: Iterable[Any], outputs_at_once: int = _OUTPUTS_AT_ONCE
) -> tuple[Tensor, int]:
    """Return Σ over samples of Jᵀ∇²ℓ(z)J as a dense matrix, and the number of samples.

    P products, several at a time on one linearisation: cheaper than the P × P outer products of Jacobians
    whenever a layer is much smaller than the scope squared.

    Returns
    -------
    float64 [P, P] on the CPU, symmetric, and the count. Memory 8P² bytes: for scopes of some thousand
    scalars.
    """
    total = torch.zeros(scope.size, scope.size, dtype=torch.float64)
    count = 0
    with evaluation(objective):
        parameters = scope_parameters(objective, scope)
        template = next(iter(parameters.values()))
        for batch in batches:
            product, width = _linearised(objective, scope, parameters, batch, outputs_at_once)
            many = torch.func.vmap(product)
            for start in range(0, scope.size, width):
                stop = min(start + width, scope.size)
                units = template.new_zeros(stop - start, scope.size)
                units[torch.arange(stop - start), torch.arange(start, stop)] = 1
                columns = scope.flatten_rows(many(scope.unflatten(units)))
                total[start:stop] += columns.to("cpu", torch.float64)
            count += batch_rows(batch)
    return (total + total.T) / 2, count


def _linearised(
    objective: Differentiable, scope: Scope, parameters: Parameters, batch: Any, outputs_at_once: int
) -> tuple[Callable[[Parameters], Parameters], int]:
    """Return x ↦ Jᵀ∇²ℓ(z)J x for the samples of a batch, and the number of these that may be worked on together.

    Each holds a few tensors of a row's widest values, which may be the scores of a catalogue behind narrow outputs.
    """
    function = outputs_function(objective, scope)
    outputs, pull = torch.func.vjp(lambda p: function(p, batch), parameters)[:2]
    outputs = outputs.detach()

    def product(tangents: Parameters) -> Parameters:
        moved = torch.func.jvp(lambda p: function(p, batch), (parameters,), (tangents,))[1]
        curved = objective.criterion.hessian_product(outputs, batch, moved)
        pulled: Parameters = pull(curved)[0]
        return pulled

    values = len(outputs) * objective.criterion.product_width(outputs, batch)
    return product, max(1, min(_DIRECTIONS_AT_ONCE, outputs_at_once // max(1, values)))
