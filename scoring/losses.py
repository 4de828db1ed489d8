"""Losses of a sample as functions of the surrogate's outputs, with gradient and Hessian in closed form.

All later steps (influence, curvature) use a model's outputs z and the derivatives of the loss in z. With J the Jacobian
of z in the parameters, a sample's gradient is Jᵀ∇ℓ(z) and its generalised Gauss-Newton matrix is Jᵀ∇²ℓ(z)J
(Schraudolph, Neural Computation 2002).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from scoring.exceptions import SettingError

BatchT_contra = TypeVar("BatchT_contra", contravariant=True)

#: Each column needs a backward pass, and a batch has a matrix of this width squared for each row.
_MOST_COLUMNS = 256


class OutputLoss(ABC, Generic[BatchT_contra]):
    """A loss ℓ(z; batch) of outputs z [B, C]. Subclasses must define `loss`; the derivatives default to autograd."""

    @abstractmethod
    def loss(self, outputs: Tensor, batch: BatchT_contra) -> Tensor:
        """Return the losses [B], differentiable in `outputs`; row b depends only on row b."""

    def gradient(self, outputs: Tensor, batch: BatchT_contra) -> Tensor:
        """Return ∂ℓ/∂z, [B, C]."""
        return torch.func.grad(lambda z: self.loss(z, batch).sum())(outputs)

    def hessian_product(self, outputs: Tensor, batch: BatchT_contra, tangent: Tensor) -> Tensor:
        """Return ∇²ℓ(z) u for each row u of `tangent` [B, C], [B, C]."""
        return torch.func.jvp(lambda z: self.gradient(z, batch), (outputs,), (tangent,))[1]

    def product_width(self, outputs: Tensor, batch: BatchT_contra) -> int:
        """Return how many numbers a row needs at once in `hessian_product`; by default its number of outputs."""
        return outputs[0].numel() if len(outputs) else 0

    def hessian_columns(self, outputs: Tensor, batch: BatchT_contra) -> Tensor:
        """Return [K, B, C] with Σₖ c cᵀ = ∇²ℓ(z): the columns of its symmetric square root, for a convex loss.

        Raises `SettingError` if there are too many outputs for a dense matrix per sample.
        """
        rows, width = outputs.shape
        if width > _MOST_COLUMNS:
            raise SettingError(
                f"ekfac would need a {width} x {width} matrix per sample for this loss; give the surrogate a `reduced` "
                "view with fewer outputs (scoring.encoded), or use solver cg"
            )
        units = torch.eye(width, dtype=outputs.dtype, device=outputs.device)
        units = units[:, None].expand(width, rows, width)
        dense = torch.stack([self.hessian_product(outputs, batch, unit) for unit in units], dim=-1)
        return square_root_columns(dense)


class LowRankCurvature(OutputLoss[BatchT_contra]):
    """A loss whose Hessian is diag(a) − b bᵀ."""

    @abstractmethod
    def hessian_parts(self, outputs: Tensor, batch: BatchT_contra) -> tuple[Tensor, Tensor | None]:
        """Return a [B, C], and b [B, C] or None if the Hessian is diagonal."""

    def hessian_product(self, outputs: Tensor, batch: BatchT_contra, tangent: Tensor) -> Tensor:
        diagonal, vector = self.hessian_parts(outputs, batch)
        product = diagonal * tangent
        if vector is not None:
            product = product - vector * (vector * tangent).sum(-1, keepdim=True)
        return product


class SoftmaxLoss(LowRankCurvature[BatchT_contra]):
    """Cross-entropy over the columns: ℓ = log Σ exp z − z_target; Hessian diag(p) − p pᵀ.

    A column at −∞ is not a candidate for that row. `target_column` gives each row's target, int64 [B].
    """

    def __init__(self, target_column: Callable[[BatchT_contra], Tensor]) -> None:
        self.target_column = target_column

    def loss(self, outputs: Tensor, batch: BatchT_contra) -> Tensor:
        target = self.target_column(batch)[:, None]
        return outputs.logsumexp(-1) - outputs.gather(-1, target).squeeze(-1)

    def gradient(self, outputs: Tensor, batch: BatchT_contra) -> Tensor:
        target = self.target_column(batch)[:, None]
        return outputs.softmax(-1).scatter_add_(-1, target, -torch.ones_like(outputs[:, :1]))

    def hessian_parts(self, outputs: Tensor, batch: BatchT_contra) -> tuple[Tensor, Tensor | None]:
        probabilities = outputs.softmax(-1)
        return probabilities, probabilities


class BinaryLoss(LowRankCurvature[object]):
    """Binary cross-entropy of the target (column 0) against the mean over the negatives (the other columns).

    ℓ = softplus(−z₀) + mean over the columns above −∞ of softplus(z). The Hessian is diagonal.
    """

    def loss(self, outputs: Tensor, batch: object) -> Tensor:
        positive = functional.softplus(-outputs[:, 0])
        return positive + (functional.softplus(outputs[:, 1:]) * self._weights(outputs)).sum(-1)

    def gradient(self, outputs: Tensor, batch: object) -> Tensor:
        negatives = outputs[:, 1:].sigmoid() * self._weights(outputs)
        return torch.cat([-(-outputs[:, :1]).sigmoid(), negatives], dim=-1)

    def hessian_parts(self, outputs: Tensor, batch: object) -> tuple[Tensor, Tensor | None]:
        slope = outputs.sigmoid() * (-outputs).sigmoid()
        weights = torch.cat([torch.ones_like(slope[:, :1]), self._weights(outputs)], dim=-1)
        return slope * weights, None

    @staticmethod
    def _weights(outputs: Tensor) -> Tensor:
        allowed = (outputs[:, 1:].detach() > -torch.inf).to(outputs.dtype)
        return allowed / allowed.sum(-1, keepdim=True).clamp(min=1)


def square_root_columns(dense: Tensor) -> Tensor:
    """Return columns c, [K, B, K], with Σₖ c cᵀ = M from M [B, K, K], positive semi-definite up to rounding."""
    values, vectors = torch.linalg.eigh((dense + dense.mT) / 2)
    return (vectors * values.clamp(min=0).sqrt()[:, None, :]).permute(2, 0, 1)
