"""The last layer of a surrogate: scores of candidate items from an encoded history, linear in both.

A head is a map z = Aₛe + c of the encoded history e [d] of a sample s, with rows of Aₛ taken from the item embeddings.
It also provides what closed-form derivatives need: the pull-back Aₛᵀr and the weighted Gram matrix Aₛᵀ diag(a) Aₛ.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from scoring.batching import HistoryBatch


class Head(Protocol):
    """The interface of a head. `weight` is always the whole embedding matrix [V + 1, d]; row 0 is the padding item."""

    def width(self, items: int) -> int:
        """Return C, the number of outputs per sample for a catalogue of `items` items."""

    def __call__(self, encoded: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        """Return the outputs [B, C] of encoded histories [B, d]."""

    def target_column(self, batch: HistoryBatch) -> Tensor:
        """Return the column of each sample's target, int64 [B]."""

    def pullback(self, cotangent: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        """Return Aₛᵀr, [B, d] from [B, C]."""

    def gram(self, diagonal: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        """Return Aₛᵀ diag(a) Aₛ, [B, d, d] from [B, C]."""


class CatalogueHead:
    """A head with every item of the catalogue as a candidate; column j is item j + 1."""

    def width(self, items: int) -> int:
        return items

    def __call__(self, encoded: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        return encoded @ weight[1:].T

    def target_column(self, batch: HistoryBatch) -> Tensor:
        return batch.target - 1

    def pullback(self, cotangent: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        return cotangent @ weight[1:]

    def gram(self, diagonal: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        return shared_gram(diagonal, weight[1:])


class SampledHead:
    """A head with the target (column 0) and K negatives that all samples share.

    A negative that happens to be a sample's target is not a candidate for that sample: its output is −∞.

    Parameters
    ----------
    negatives : int64 [K], item indices from 1.
    log_expected : [K], subtracted from each negative's score. It is log(K q) for an estimate of the full softmax, with
        q the probability of drawing the item, so that Σ exp over the negatives has the expectation of the sum over the
        catalogue without the target. The target's score is unchanged.
    """

    def __init__(self, negatives: Tensor, log_expected: Tensor) -> None:
        self.negatives = negatives
        self.log_expected = log_expected

    def width(self, items: int) -> int:
        return 1 + len(self.negatives)

    def __call__(self, encoded: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        return self.scores(encoded, weight, batch.target)

    def scores(self, encoded: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        """Return scores [M, 1 + K] of encoded positions [M, d] and their targets [M]."""
        positive = (encoded * weight[target]).sum(-1, keepdim=True)
        negative = encoded @ weight[self.negatives].T - self.log_expected
        hits = self.negatives == target[:, None]
        return torch.cat([positive, negative.masked_fill(hits, -torch.inf)], dim=-1)

    def target_column(self, batch: HistoryBatch) -> Tensor:
        return torch.zeros_like(batch.target)

    def pullback(self, cotangent: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        return cotangent[:, :1] * weight[batch.target] + cotangent[:, 1:] @ weight[self.negatives]

    def gram(self, diagonal: Tensor, weight: Tensor, batch: HistoryBatch) -> Tensor:
        positive = weight[batch.target]
        own = (diagonal[:, :1] * positive)[:, :, None] * positive[:, None, :]
        return own + shared_gram(diagonal[:, 1:], weight[self.negatives])


def shared_gram(diagonal: Tensor, vectors: Tensor) -> Tensor:
    """Return Σⱼ aⱼ wⱼ wⱼᵀ for each row a of `diagonal` [B, C] and shared vectors w [C, d], as [B, d, d].

    This takes one matrix product with C × (d − i) columns for each row i of the upper triangle, so nothing of size
    B × C × d or C × d² is ever held.
    """
    width = vectors.shape[1]
    gram = diagonal.new_empty(diagonal.shape[0], width, width)
    for row in range(width):
        upper = diagonal @ (vectors[:, row : row + 1] * vectors[:, row:])
        gram[:, row, row:] = upper
        gram[:, row:, row] = upper
    return gram
