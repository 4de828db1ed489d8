"""A surrogate's losses as functions of its encoded histories, with constant parts precomputed.

Suppose the head z = Aₛe + c is affine in the encoded history e and holds no parameter in scope. Then the Gauss-Newton
matrices in the outputs z and in e are equal: (AₛJ)ᵀ∇²ℓ(z)(AₛJ) = Jᵀ(Aₛᵀ∇²ℓ(z)Aₛ)J, with J = ∂e/∂θ. The products with
the catalogue are then needed once per sample, not once per iteration of a solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch
from scoring.head import Head
from scoring.losses import LowRankCurvature, OutputLoss, square_root_columns
from scoring.objective import evaluation
from scoring.row_products import row_products


@dataclass(frozen=True)
class EncodedLimits:
    """Bounds on what exists at once; none changes a result by more than rounding.

    Attributes
    ----------
    gradient_scores : the scores in a chunk of a gradient; a chunk that fits the cache is faster.
    hessian_scores : the scores in a chunk of Hessians; larger chunks share more products of embeddings.
    kept_hessian : the largest size of a d × d Hessian that is stored: up to d = 128, or 64 KiB per sample.
    """

    gradient_scores: int = 1 << 20
    hessian_scores: int = 1 << 24
    kept_hessian: int = 1 << 14


class LayeredEncoder(Protocol):
    """An encoder that can start from the states below one of its blocks, or within the last block."""

    item_embedding: nn.Embedding

    def embed(self, history: Tensor) -> Tensor: ...

    def states_before(self, depth: int, history: Tensor, lengths: Tensor) -> Tensor: ...

    def encode_from(self, depth: int, states: Tensor, lengths: Tensor) -> Tensor: ...


class EncodedLoss(OutputLoss[HistoryBatch]):
    """The loss ℓ(head(e)) as a function of the encoded history e [B, d]."""

    def __init__(
        self, head: Head, base: LowRankCurvature[HistoryBatch], embedding: nn.Embedding, limits: EncodedLimits
    ) -> None:
        self.limits = limits
        self.head = head
        self.base = base
        self.embedding = embedding

    @property
    def weight(self) -> Tensor:
        return self.embedding.weight.detach()

    def loss(self, outputs: Tensor, batch: HistoryBatch) -> Tensor:
        return self.base.loss(self.head(outputs, self.weight, batch), batch)

    def gradient(self, outputs: Tensor, batch: HistoryBatch) -> Tensor:
        return self._by_chunks(self._chunk_gradient, outputs, batch, self.limits.gradient_scores)

    def hessian_product(self, outputs: Tensor, batch: HistoryBatch, tangent: Tensor) -> Tensor:
        if batch.hessian is not None:
            return row_products(batch.hessian, tangent)
        scores, moved = torch.func.jvp(lambda e: self.head(e, self.weight, batch), (outputs,), (tangent,))[:2]
        return self.head.pullback(self.base.hessian_product(scores, batch, moved), self.weight, batch)

    def product_width(self, outputs: Tensor, batch: HistoryBatch) -> int:
        return outputs.shape[1] if batch.hessian is not None else self.head.width(len(self.weight) - 1)

    def hessian_columns(self, outputs: Tensor, batch: HistoryBatch) -> Tensor:
        return square_root_columns(self.hessian(outputs, batch))

    def hessian(self, outputs: Tensor, batch: HistoryBatch) -> Tensor:
        """Return Aₛᵀ(diag(a) − b bᵀ)Aₛ, [B, d, d]; the batch's own if it was precomputed."""
        if batch.hessian is not None:
            return batch.hessian
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
        """Apply `function` to a few rows at a time, so that about `scores` outputs exist at once.

        The gradient is faster with few enough rows for the cache. The Hessian shares products of embeddings over more.
        """
        rows = max(1, scores // self.head.width(len(self.weight) - 1))
        parts = []
        for start in range(0, len(outputs), rows):
            span = slice(start, start + rows)
            part = HistoryBatch(batch.history[span], batch.lengths[span], batch.target[span])
            parts.append(function(outputs[span], part))
        return torch.cat(parts)


class EncodedObjective:
    """A `scoring.objective.Differentiable` whose outputs are the encoded histories.

    Parameters
    ----------
    module : the surrogate, which owns the parameters in scope.
    head, criterion : the map from the encoded history to the outputs, and the loss of those.
    depth : the lowest block with a parameter in scope; the number of blocks if the scope lies after the last block's
        attention; None if it reaches below the blocks.
    limits : bounds on what exists at once.
    """

    def __init__(
        self,
        module: LayeredEncoder,
        head: Head,
        criterion: OutputLoss[HistoryBatch],
        depth: int | None,
        limits: EncodedLimits,
    ) -> None:
        if not isinstance(criterion, LowRankCurvature):
            raise TypeError(f"{type(criterion).__name__} has no Hessian parts")
        self.module = cast(nn.Module, module)
        self.criterion = EncodedLoss(head, criterion, module.item_embedding, limits)
        self._encoder = module
        self._depth = depth

    def outputs(self, batch: HistoryBatch) -> Tensor:
        """Return the encoded histories, [B, d]."""
        if batch.states is not None and self._depth is not None:
            return self._encoder.encode_from(self._depth, batch.states, batch.lengths)
        return self._encoder.encode_from(0, self._encoder.embed(batch.history), batch.lengths)

    def prepare(self, batch: HistoryBatch, curvature: bool) -> HistoryBatch:
        """Precompute the states below the scope and, for `curvature`, the d × d Hessians of the batch's losses.

        They are computed in evaluation mode and valid only while the parameters stay unchanged. Large Hessians are
        recomputed for each product instead, trading time for memory.
        """
        with evaluation(self), torch.no_grad():
            if self._depth is not None:
                states = self._encoder.states_before(self._depth, batch.history, batch.lengths)
                batch = batch._replace(states=states)
            if curvature and self.criterion.weight.shape[1] ** 2 <= self.criterion.limits.kept_hessian:
                batch = batch._replace(hessian=self.criterion.hessian(self.outputs(batch), batch))
        return batch
