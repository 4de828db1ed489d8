"""Cross-entropy over a whole catalogue without storing the matrix of scores."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

#: 64 MiB in float32.
_SCORES_AT_ONCE = 1 << 24


class _Context(Protocol):
    """The part of an autograd function's context that is used here."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor | None, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


def catalogue_cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, scores_at_once: int = _SCORES_AT_ONCE
) -> Tensor:
    """Return Σ over positions of −log softmax(hidden · weightᵀ)[target].

    Scores are computed, used for the loss and both gradients, and dropped, one chunk of positions at a time. So memory
    is that of one chunk, and training passes over the scores three times rather than seven.

    Parameters
    ----------
    hidden : [M, d].
    weight : [V, d], one row per item.
    target : int64 [M], rows of `weight`.
    scores_at_once : the number of scores in a chunk, at least those of one position.

    Returns
    -------
    A scalar, differentiable once in `hidden` and `weight`.
    """
    loss: Tensor = _CatalogueCrossEntropy.apply(hidden, weight, target, scores_at_once)
    return loss


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, hidden: Tensor, weight: Tensor, target: Tensor, scores_at_once: int) -> Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
        weight_gradient = torch.zeros_like(weight) if needs_weight else None
        loss = hidden.new_zeros(())
        rows = max(1, scores_at_once // max(1, len(weight)))
        for part in torch.arange(len(hidden), device=hidden.device).split(rows):
            span = slice(int(part[0]), int(part[-1]) + 1)
            columns = target[span, None]
            scores = hidden[span] @ weight.T
            scores -= scores.amax(-1, keepdim=True)
            at_target = scores.gather(-1, columns)
            scores.exp_()
            total = scores.sum(-1, keepdim=True)
            loss += (total.log() - at_target).sum()
            if hidden_gradient is None and weight_gradient is None:
                continue
            scores /= total
            scores.scatter_add_(-1, columns, -torch.ones_like(at_target))
            if hidden_gradient is not None:
                torch.mm(scores, weight, out=hidden_gradient[span])
            if weight_gradient is not None:
                weight_gradient.addmm_(scores.T, hidden[span])
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        scale = upstream[0]
        return (
            None if hidden_gradient is None else hidden_gradient * scale,
            None if weight_gradient is None else weight_gradient * scale,
            None,
            None,
        )
