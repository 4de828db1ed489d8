"""First derivatives of the samples' losses: summed, one by one, and along a direction.

All functions take an objective (see `scoring.objective.Differentiable`), never touch its parameters' `.grad`, and run
it in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoring.objective import (
    BatchT,
    Differentiable,
    Parameters,
    batch_rows,
    batch_tensors,
    evaluation,
    outputs_function,
    scope_parameters,
    with_tensors,
)
from scoring.scope import Scope

#: Maximum number of entries of per-sample gradients that exist at once: 64 MiB in float32.
_GRADIENT_ENTRIES = 1 << 24


def mean_loss_gradient_sum(
    objective: Differentiable[BatchT], scope: Scope, batches: Iterable[BatchT]
) -> tuple[Tensor, int]:
    """Return Σ over samples of ∇ℓ(s), and the number of samples.

    These are the numerator and denominator of the mean, and can be added over shards. Samples whose gradient is not
    finite are in neither.

    Returns
    -------
    float64 [P] on the CPU, and the count.
    """
    total = torch.zeros(scope.size, dtype=torch.float64)
    count = 0
    for batch in batches:
        gradient = _gradient_sum(objective, scope, batch)
        if not bool(torch.isfinite(gradient).all()):
            batch = _finite_rows(objective, scope, batch)
            if not batch_rows(batch):
                continue
            gradient = _gradient_sum(objective, scope, batch)
        total += gradient.cpu()
        count += batch_rows(batch)
    return total, count


def finite_batches(objective: Differentiable[BatchT], scope: Scope, batches: Iterable[BatchT]) -> Iterator[BatchT]:
    """Yield the batches without samples whose gradient is not finite, over which a mean curvature may be taken."""
    for batch in batches:
        if bool(torch.isfinite(_gradient_sum(objective, scope, batch)).all()):
            yield batch
        elif batch_rows(rest := _finite_rows(objective, scope, batch)):
            yield rest


def _gradient_sum(objective: Differentiable[BatchT], scope: Scope, batch: BatchT) -> Tensor:
    """Return Σ over a batch's samples of ∇ℓ(s), [P], from one backward pass."""
    function = outputs_function(objective, scope)
    with evaluation(objective):
        outputs, pull = torch.func.vjp(lambda p: function(p, batch), scope_parameters(objective, scope))[:2]
        slope = objective.criterion.gradient(outputs.detach(), batch)
        return scope.flatten(pull(slope)[0])


def _finite_rows(objective: Differentiable[BatchT], scope: Scope, batch: BatchT) -> BatchT:
    finite = [torch.isfinite(gradients).all(1) for _, gradients in gradient_parts(objective, scope, batch)]
    return with_tensors(batch, [part[torch.cat(finite)] for part in batch_tensors(batch)])


def per_sample_losses(objective: Differentiable[BatchT], batch: BatchT) -> Tensor:
    """Return the loss of each sample, [B], without a graph."""
    with evaluation(objective), torch.no_grad():
        return objective.criterion.loss(objective.outputs(batch), batch)


def per_sample_gradients(objective: Differentiable[BatchT], scope: Scope, batch: BatchT) -> Tensor:
    """Return ∇ℓ(s) of every sample of a batch, [B, P], in the precision of the parameters."""
    function = outputs_function(objective, scope)

    def sample_loss(parameters: Parameters, *sample: Tensor) -> Tensor:
        single = with_tensors(batch, [part[None] for part in sample])
        return objective.criterion.loss(function(parameters, single), single).squeeze(0)

    with evaluation(objective):
        parameters = scope_parameters(objective, scope)
        tensors = batch_tensors(batch)
        in_dims = (None, *(0 for _ in tensors))
        gradients = torch.func.vmap(torch.func.grad(sample_loss), in_dims=in_dims)(parameters, *tensors)
    return scope.flatten_rows(gradients)


def gradient_parts(
    objective: Differentiable[BatchT], scope: Scope, batch: BatchT, entries_at_once: int = _GRADIENT_ENTRIES
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, `per_sample_gradients` [b, P]) for a few rows of a batch at a time, which bounds the memory.

    `entries_at_once` bounds b · P, except for a single row that is larger.
    """
    rows = max(1, entries_at_once // scope.size)
    tensors = batch_tensors(batch)
    for start in range(0, batch_rows(batch), rows):
        span = slice(start, start + rows)
        yield span, per_sample_gradients(objective, scope, with_tensors(batch, [part[span] for part in tensors]))


def weighted_gradient_sums(
    objective: Differentiable[BatchT],
    scope: Scope,
    batches: Iterable[tuple[BatchT, Tensor]],
    entries_at_once: int = _GRADIENT_ENTRIES,
) -> Tensor:
    """Return Σ over samples of wₖ(s)∇ℓ(s) for K weightings.

    Every gradient is computed once and multiplied by all weights, which is cheaper than K backward passes. Samples
    whose gradient is not finite are omitted.

    Parameters
    ----------
    batches : batches with the weights of their samples, [K, B].
    entries_at_once : the entries of the per-sample gradients that exist at once.

    Returns
    -------
    float64 [K, P] on the CPU; [0, P] without batches.
    """
    total = torch.zeros(0, scope.size, dtype=torch.float64)
    for batch, weights in batches:
        for span, gradients in gradient_parts(objective, scope, batch, entries_at_once):
            gradients = gradients.where(torch.isfinite(gradients).all(1, keepdim=True), 0.0)
            sums = (weights[:, span].to(gradients) @ gradients).to("cpu", torch.float64)
            total = total + sums if len(total) else sums
    return total


def directional_derivatives(
    objective: Differentiable[BatchT], scope: Scope, direction: Tensor, batch: BatchT
) -> Tensor:
    """Return ⟨∇ℓ(s), h⟩ for each sample s of a batch, exactly, at about the cost of two forward passes.

    In forward mode, with ż the tangent of the outputs z along h, the derivative is ⟨∂ℓ/∂z, ż⟩. Only layers from the
    lowest parameter in scope upwards carry tangents.

    Parameters
    ----------
    direction : h, [P].

    Returns
    -------
    [B] in the precision of the parameters.
    """
    function = outputs_function(objective, scope)
    with evaluation(objective), torch.no_grad():
        parameters = scope_parameters(objective, scope)
        tangents = like(scope.unflatten(direction), parameters)
        outputs, moved = torch.func.jvp(lambda p: function(p, batch), (parameters,), (tangents,))[:2]
        return (objective.criterion.gradient(outputs, batch) * moved).sum(-1)


def influence_scores(
    objective: Differentiable[BatchT], scope: Scope, direction: Tensor, batch: BatchT
) -> npt.NDArray[np.float32]:
    """Return I(s) = ⟨∇ℓ(s), h⟩ for the samples of a batch, float32 [B]; not finite where a loss is not."""
    scores = directional_derivatives(objective, scope, direction, batch)
    return scores.to("cpu", torch.float32).numpy()


def directional_derivatives_many(
    objective: Differentiable[BatchT], scope: Scope, directions: Tensor, batch: BatchT
) -> Tensor:
    """Return ⟨∇ℓ(s), h⟩ for each sample and each of several directions, in one forward pass with a tangent for each.

    Parameters
    ----------
    directions : [K, P].

    Returns
    -------
    [B, K] in the precision of the parameters.
    """
    function = outputs_function(objective, scope)
    with evaluation(objective), torch.no_grad():
        parameters = scope_parameters(objective, scope)
        tangents = like(scope.unflatten(directions), parameters)

        def push(tangent: Parameters) -> tuple[Tensor, Tensor]:
            outputs, moved = torch.func.jvp(lambda p: function(p, batch), (parameters,), (tangent,))[:2]
            return outputs, moved

        outputs, moved = torch.func.vmap(push, out_dims=(None, 0))(tangents)  # type: ignore[arg-type]
        return (objective.criterion.gradient(outputs, batch) * moved).sum(-1).T


def like(tensors: Parameters, parameters: Parameters) -> Parameters:
    """Move `tensors` to the device and precision of the parameters of the same names."""
    return {name: tensor.to(parameters[name]) for name, tensor in tensors.items()}
