"""A surrogate's losses as functions of its encoded histories, with whatever does not change computed ahead.

Where the head z = Aₛe + c is affine in the encoded history e and holds no parameter in scope, the
Gauss-Newton matrix in the outputs z and in e are the same: (AₛJ)ᵀ∇²ℓ(z)(AₛJ) = Jᵀ(Aₛᵀ∇²ℓ(z)Aₛ)J, with J =
∂e/∂θ. The products with the catalogue then happen once a sample, not once an iteration of a solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch
from scoring.head import Head
from scoring.losses import LowRankCurvature, OutputLoss, square_root_columns
from scoring.objective import evaluation
from scoring.row_products import row_products


@dataclass(frozen=True)
class EncodedLimits:
    """How much exists at once; nothing here changes a result by more than rounding.

    Attributes
    ----------
    gradient_scores : scores of a chunk of a gradient; few enough for the cache speed it up.
    hessian_scores : scores of a chunk of Hessians; more let them share products of embeddings.
    kept_hessian : numbers of a d × d Hessian that is kept: up to d = 128, and 64 KiB a sample.
    """

    gradient_scores: int = 1 << 20
    hessian_scores: int = 1 << 24
    kept_hessian: int = 1 << 14


class LayeredEncoder(Protocol):
    """An encoder that can start from the states below one of its blocks, or within the last."""

    item_embedding: nn.Embedding

    def embed(self, history: Tensor) -> Tensor: ...

    def states_before(self, depth: int, history: Tensor, lengths: Tensor) -> Tensor: ...

    def encode_from(self, depth: int, states: Tensor, lengths: Tensor) -> Tensor: ...


class EncodedLoss(OutputLoss):
    """ℓ(head(e)) as a loss of the encoded history e [B, d]."""

    def __init__(self, head: Head, base: LowRankCurvature, embedding: nn.Embedding, limits: EncodedLimits) -> None:
        self.limits = limits
        self.head = head
        self.base = base
        self.embedding = embedding

    @property
    def weight(self) -> Tensor:
        return self.embedding.weight.detach()

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return self.base.loss(self.head(outputs, self.weight, batch), batch)

    def gradient(self, outputs: Tensor, batch: Any) -> Tensor:
        return self._by_chunks(self._chunk_gradient, outputs, batch, self.limits.gradient_scores)

    def hessian_product(self, outputs: Tensor, batch: Any, tangent: Tensor) -> Tensor:
        if batch.hessian is not None:
            return row_products(batch.hessian, tangent)
        scores, moved = torch.func.jvp(lambda e: self.head(e, self.weight, batch), (outputs,), (tangent,))[:2]
        return self.head.pullback(self.base.hessian_product(scores, batch, moved), self.weight, batch)

    def product_width(self, outputs: Tensor, batch: Any) -> int:
        return outputs.shape[1] if batch.hessian is not None else self.head.width(len(self.weight) - 1)

    def hessian_columns(self, outputs: Tensor, batch: Any) -> Tensor:
        return square_root_columns(self.hessian(outputs, batch))

    def hessian(self, outputs: Tensor, batch: Any) -> Tensor:
        """Aₛᵀ(diag(a) − b bᵀ)Aₛ, [B, d, d]; the batch's own where it was computed ahead."""
        if batch.hessian is not None:
            ahead: Tensor = batch.hessian
            return ahead
        return self._by_chunks(self._chunk_hessian, outputs, batch, self.limits.hessian_scores)

    def _chunk_gradient(self, outputs: Tensor, batch: HistoryBatch) -> Tensor:
        slope = self.base.gradient(self.head(outputs, self.weight, batch), batch)
        return self.head.pullback(slope, self.weight, batch)

    def _chunk_hessian(self, outputs: Tensor, batch: HistoryBatch) -> Tensor:
        diagonal, vector = self.base.hessian_parts(self.head(outputs, self.weight, batch), batch)
        dense = self.head.gram(diagonal, self.weight, batch)
        if vector is None:
            return dense
        pulled = self.head.pullback(vector, self.weight, batch)
        return dense - pulled[:, :, None] * pulled[:, None, :]

    def _by_chunks(
        self,
        function: Callable[[Tensor, HistoryBatch], Tensor],
        outputs: Tensor,
        batch: HistoryBatch,
        scores: int,
    ) -> Tensor:
        """`function` on a few rows at a time, so that about `scores` outputs exist at once."""
        rows = max(1, scores // self.head.width(len(self.weight) - 1))
        parts = []
        for start in range(0, len(outputs), rows):
            span = slice(start, start + rows)
            part = HistoryBatch(batch.history[span], batch.lengths[span], batch.target[span])
            parts.append(function(outputs[span], part))
        return torch.cat(parts)


class EncodedObjective:
    """What `scoring.surrogate.Differentiable` asks, with the encoded history for outputs.

    Parameters
    ----------
    module : the surrogate, owner of the parameters in scope.
    head, criterion : from the encoded history to the outputs, and the loss of those.
    depth : the lowest block with a parameter in scope, or the number of blocks where the scope lies after the last
        one's attention; None where it reaches below the blocks.
    limits : how much exists at once.
    """

    def __init__(
        self,
        module: Any,
        head: Head,
        criterion: OutputLoss,
        depth: int | None,
        limits: EncodedLimits,
    ) -> None:
        if not isinstance(criterion, LowRankCurvature):
            raise TypeError(f"{type(criterion).__name__} gives no Hessian parts")
        self.module: nn.Module = module
        self.criterion = EncodedLoss(head, criterion, module.item_embedding, limits)
        self._encoder: LayeredEncoder = module
        self._depth = depth

    def outputs(self, batch: HistoryBatch) -> Tensor:
        """[B, d], the encoded histories."""
        if batch.states is not None and self._depth is not None:
            return self._encoder.encode_from(self._depth, batch.states, batch.lengths)
        return self._encoder.encode_from(0, self._encoder.embed(batch.history), batch.lengths)

    def prepare(self, batch: HistoryBatch, curvature: bool) -> HistoryBatch:
        """The batch with the states below the scope and, for `curvature`, the d × d Hessians of its losses.

        Computed in evaluation mode; they hold only while the parameters stay as they are. Hessians of many numbers
        are left to be computed at each product, in time rather than in memory.
        """
        with evaluation(self), torch.no_grad():
            if self._depth is not None:
                states = self._encoder.states_before(self._depth, batch.history, batch.lengths)
                batch = batch._replace(states=states)
            if curvature and self.criterion.weight.shape[1] ** 2 <= self.criterion.limits.kept_hessian:
                batch = batch._replace(hessian=self.criterion.hessian(self.outputs(batch), batch))
        return batch
