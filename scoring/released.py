"""The influence score of DEALRec's released code, as a control: what the code computes, not what the paper says.

It uses one d × d weight of the surrogate, and LiSSA over single samples with their full Hessian. Its loss is that of a
user's earlier targets and never of the target that the LLM learns, so a history of one item scores exactly 0 (Lin et
al., SIGIR 2024, code of 2024). It is deliberately kept apart from `scoring.influence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch
from scoring.objective import evaluation
from scoring.sasrec import SASRec
from scoring.solvers import Product, Solution, solve_lissa

#: Maximum number of outputs, over all positions of a batch, that exist at once: 64 MiB in float32.
_OUTPUTS = 1 << 24


class ReleasedInfluence:
    """Computes scores by the released recipe on a trained surrogate, in the precision of its weights.

    Parameters
    ----------
    model : the surrogate. The weight is the last feed-forward layer of its last block, [d, d].
    outputs_at_once : the outputs, over all positions of a batch, that exist at once.
    """

    def __init__(self, model: SASRec, outputs_at_once: int = _OUTPUTS) -> None:
        self._outputs_at_once = outputs_at_once
        self._call = _EarlierLosses(model)
        self._model = model
        self._name = f"model.blocks.{len(model.blocks) - 1}.feed_forward.outer.weight"
        self._values = {name: value.detach() for name, value in self._call.named_parameters()}
        self._weight = self._values[self._name]

    def gradient_sums(self, batches: Iterable[tuple[HistoryBatch, Tensor]]) -> Tensor:
        """Return Σ over samples of wₖ(s)∇ℓ(s) for the earlier-target losses, float64 [K, d²].

        Parameters
        ----------
        batches : batches with the weights of their samples, [K, B].
        """
        total = torch.zeros(0, self._weight.numel(), dtype=torch.float64)
        with evaluation(self._model):
            for batch, weights in batches:
                rows = torch.func.vmap(torch.func.grad(self._sample_loss), in_dims=(None, 0, 0, 0))
                for span, part in self._parts(batch):
                    gradients = rows(self._weight, *part[:3]).flatten(1)
                    sums = (weights[:, span].to(gradients) @ gradients).to(torch.float64)
                    total = total + sums if len(total) else sums
        return total

    def solve(self, v: Tensor, samples: Iterable[HistoryBatch], damp: float = 0.01, scale: float = 25.0) -> Solution:
        """Run LiSSA from h = v [d²], or [K, d²] on the same samples, with one step per sample in `samples`."""
        with evaluation(self._model):
            return solve_lissa(self._products(samples), v, damp, scale)

    def scores(self, direction: Tensor, batch: HistoryBatch) -> npt.NDArray[np.float32]:
        """Return ⟨∇ℓ(s), h⟩ of each sample's earlier-target loss, float32 [B]."""
        tangent = direction.reshape(self._weight.shape).to(self._weight)
        found = []
        with evaluation(self._model):
            for _, part in self._parts(batch):
                losses = partial(self._losses, batch=part)
                found.append(torch.func.jvp(losses, (self._weight,), (tangent,))[1])
        return torch.cat(found).to("cpu", torch.float32).numpy()

    def _parts(self, batch: HistoryBatch) -> Iterator[tuple[slice, HistoryBatch]]:
        """Split a batch so that the outputs at all positions of a part take bounded memory."""
        rows = max(1, self._outputs_at_once // (batch.history.shape[1] * self._model.output_count))
        for start in range(0, len(batch.target), rows):
            span = slice(start, start + rows)
            yield span, HistoryBatch(batch.history[span], batch.lengths[span], batch.target[span])

    def _directions_at_once(self, batch: HistoryBatch) -> int:
        """Return how many products may share a batch within the same bound on outputs."""
        return max(1, self._outputs_at_once // (batch.history.numel() * self._model.output_count))

    def _losses(self, weight: Tensor, batch: HistoryBatch) -> Tensor:
        losses: Tensor = torch.func.functional_call(self._call, {**self._values, self._name: weight}, (batch,))
        return losses

    def _sample_loss(self, weight: Tensor, history: Tensor, length: Tensor, target: Tensor) -> Tensor:
        return self._losses(weight, HistoryBatch(history[None], length[None], target[None])).squeeze(0)

    def _products(self, samples: Iterable[HistoryBatch]) -> Iterator[Product]:
        for batch in samples:
            gradient = torch.func.grad(lambda weight, batch=batch: self._losses(weight, batch).sum())

            def product(
                x: Tensor, gradient: Callable[[Tensor], Tensor] = gradient, batch: HistoryBatch = batch
            ) -> Tensor:
                def along(tangent: Tensor) -> Tensor:
                    moved: Tensor = torch.func.jvp(gradient, (self._weight,), (tangent,))[1]
                    return moved

                tangents = x.reshape(*x.shape[:-1], *self._weight.shape).to(self._weight)
                many = torch.func.vmap(along, chunk_size=self._directions_at_once(batch))
                moved = along(tangents) if x.ndim == 1 else many(tangents)
                return moved.reshape(x.shape).to(torch.float64)

            yield product


class _EarlierLosses(nn.Module):
    """The mean loss [B] over the targets inside each history of a batch; 0 for a history of one item."""

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: HistoryBatch) -> Tensor:
        model, inputs, targets = self.model, batch.history[:, :-1], batch.history[:, 1:]
        if inputs.shape[1] == 0:
            return torch.zeros(len(targets), dtype=model.item_embedding.weight.dtype)
        states = model.embed(inputs)
        for block in model.blocks:
            states = block(states)
        hidden = model.final_norm(states).flatten(0, 1)
        flat = targets.flatten()
        ones = torch.ones_like(flat)
        # Padding is scored against item 1, and then excluded from the mean.
        positions = HistoryBatch(flat[:, None], ones, flat.clamp(min=1))
        outputs = model.head(hidden, model.item_embedding.weight, positions)
        losses = model.criterion.loss(outputs, positions).reshape(targets.shape)
        counted = targets != 0
        return torch.where(counted, losses, 0).sum(-1) / counted.sum(-1).clamp(min=1)
