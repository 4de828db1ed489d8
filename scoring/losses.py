"""Losses of a sample as functions of the surrogate's outputs, with their gradient and Hessian in closed form.

Everything downstream (influence, curvature) goes through the outputs z of a model and the derivatives of the
loss in z. With J the Jacobian of z in the parameters, the gradient of a sample is Jᵀ∇ℓ(z) and its generalised
Gauss-Newton matrix is Jᵀ∇²ℓ(z)J (Schraudolph, Neural Computation 2002).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scoring.exceptions import SettingError

TargetColumn = Callable[[Any], Tensor]

#: A backward pass a column follows, and a batch of a thousand rows has a matrix of this width squared for each.
_MOST_COLUMNS = 256


class OutputLoss(ABC):
    """ℓ(z; batch) for outputs z [B, C]. A subclass must give `loss`; the derivatives default to autograd."""

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """[B], differentiable in `outputs`; row b depends on row b alone."""

    def gradient(self, outputs: Tensor, batch: Any) -> Tensor:
        """∂ℓ/∂z, [B, C]."""
        return torch.func.grad(lambda z: self.loss(z, batch).sum())(outputs)

    def hessian_product(self, outputs: Tensor, batch: Any, tangent: Tensor) -> Tensor:
        """∇²ℓ(z) u for each row of `tangent` [B, C], [B, C]."""
        return torch.func.jvp(lambda z: self.gradient(z, batch), (outputs,), (tangent,))[1]

    def product_width(self, outputs: Tensor, batch: Any) -> int:
        """How many numbers a row needs at once in `hessian_product`: the outputs, unless they are not the widest."""
        return outputs[0].numel() if len(outputs) else 0

    def hessian_columns(self, outputs: Tensor, batch: Any) -> Tensor:
        """[K, B, C] with Σₖ c cᵀ = ∇²ℓ(z): the columns of its symmetric square root, for a convex loss.

        Raises SettingError for more outputs than dense matrices a sample are sensible for.
        """
        rows, width = outputs.shape
        if width > _MOST_COLUMNS:
            raise SettingError(
                f"ekfac would take a {width} x {width} matrix a sample of this loss; give the surrogate a `reduced` "
                "view with fewer outputs (scoring.encoded), or take solver cg"
            )
        units = torch.eye(width, dtype=outputs.dtype, device=outputs.device)
        units = units[:, None].expand(width, rows, width)
        dense = torch.stack([self.hessian_product(outputs, batch, unit) for unit in units], dim=-1)
        return square_root_columns(dense)


class LowRankCurvature(OutputLoss):
    """A loss whose Hessian is diag(a) − b bᵀ."""

    @abstractmethod
    def hessian_parts(self, outputs: Tensor, batch: Any) -> tuple[Tensor, Tensor | None]:
        """(a [B, C], b [B, C] or None where the Hessian is diagonal)."""

    def hessian_product(self, outputs: Tensor, batch: Any, tangent: Tensor) -> Tensor:
        diagonal, vector = self.hessian_parts(outputs, batch)
        product = diagonal * tangent
        if vector is not None:
            product = product - vector * (vector * tangent).sum(-1, keepdim=True)
        return product


class SoftmaxLoss(LowRankCurvature):
    """Cross-entropy over the columns: ℓ = log Σ exp z − z_target; Hessian diag(p) − p pᵀ.

    A column at −∞ is no candidate for that row. `target_column` gives int64 [B], each row's target.
    """

    def __init__(self, target_column: TargetColumn) -> None:
        self.target_column = target_column

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        target = self.target_column(batch)[:, None]
        return outputs.logsumexp(-1) - outputs.gather(-1, target).squeeze(-1)

    def gradient(self, outputs: Tensor, batch: Any) -> Tensor:
        target = self.target_column(batch)[:, None]
        return outputs.softmax(-1).scatter_add_(-1, target, -torch.ones_like(outputs[:, :1]))

    def hessian_parts(self, outputs: Tensor, batch: Any) -> tuple[Tensor, Tensor | None]:
        probabilities = outputs.softmax(-1)
        return probabilities, probabilities


class BinaryLoss(LowRankCurvature):
    """Binary cross-entropy of the target (column 0) against the mean over the negatives (the other columns).

    ℓ = softplus(−z₀) + mean over the columns above −∞ of softplus(z). The Hessian is diagonal.
    """

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        positive = functional.softplus(-outputs[:, 0])
        return positive + (functional.softplus(outputs[:, 1:]) * self._weights(outputs)).sum(-1)

    def gradient(self, outputs: Tensor, batch: Any) -> Tensor:
        negatives = outputs[:, 1:].sigmoid() * self._weights(outputs)
        return torch.cat([-(-outputs[:, :1]).sigmoid(), negatives], dim=-1)

    def hessian_parts(self, outputs: Tensor, batch: Any) -> tuple[Tensor, Tensor | None]:
        slope = outputs.sigmoid() * (-outputs).sigmoid()
        weights = torch.cat([torch.ones_like(slope[:, :1]), self._weights(outputs)], dim=-1)
        return slope * weights, None

    @staticmethod
    def _weights(outputs: Tensor) -> Tensor:
        allowed = (outputs[:, 1:].detach() > -torch.inf).to(outputs.dtype)
        return allowed / allowed.sum(-1, keepdim=True).clamp(min=1)


def square_root_columns(dense: Tensor) -> Tensor:
    """[K, B, K], columns c with Σₖ c cᵀ = M, from M [B, K, K] positive semi-definite up to rounding."""
    values, vectors = torch.linalg.eigh((dense + dense.mT) / 2)
    return (vectors * values.clamp(min=0).sqrt()[:, None, :]).permute(2, 0, 1)
