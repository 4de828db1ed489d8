"""Two small recommenders that know titles before any tuning, as an LLM does, and cost seconds to tune.

They stand in for an LLM while selectors are compared. Each scores an item as query · key + prior over fixed directions
of titles, starts exactly at the cosine similarity of history and candidate (mean over the history), and learns a
residual: what is zero at first is the last factor of each learnt part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

#: Initial factor on the cosines in the softmax. It is learnt with the rest and moves no ranking.
_FIRST_SHARPNESS = 3.0


class ProxyModel(nn.Module):
    """Scores of items for histories.

    Parameters
    ----------
    directions : float32 [n, d], unit rows; row j for item j + 1.
    """

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        padded = torch.cat([directions.new_zeros(1, directions.shape[1]), directions])
        self.register_buffer("directions", padded, persistent=False)
        self.directions: Tensor
        self.prior = nn.Parameter(torch.zeros(directions.shape[1]))
        self.log_sharpness = nn.Parameter(torch.tensor(_FIRST_SHARPNESS).log())

    def scores(self, history: Tensor, items: Tensor | None = None) -> Tensor:
        """Score `items` [m], or all from 1, for histories [B, T], oldest first, padded with 0; return [B, m]."""
        vectors = self.directions[1:] if items is None else self.directions[items]
        return self.queries(history) @ self.keys(vectors).T + vectors @ self.prior

    def logits(self, history: Tensor, items: Tensor | None = None) -> Tensor:
        """Return the scores as the loss takes them."""
        return self.log_sharpness.exp() * self.scores(history, items)

    @abstractmethod
    def queries(self, history: Tensor) -> Tensor:
        """Return queries [B, k]. At first their product with a key is that of the mean direction of the history."""

    @abstractmethod
    def keys(self, vectors: Tensor) -> Tensor:
        """Return the keys [m, k] of candidates with the directions [m, d]."""


class SemanticProxy(ProxyModel):
    """A transformer block over directions of an LLM's title embeddings, and a low-rank change of the candidates."""

    def __init__(self, directions: Tensor, max_items: int, rank: int = 64) -> None:
        super().__init__(directions)
        width = directions.shape[1]
        self.down = nn.Linear(width, rank)
        # By recency: the newest item is at 0.
        self.recency = nn.Parameter(torch.randn(max_items, rank) * 0.02)
        self.block = nn.TransformerEncoderLayer(
            rank, nhead=2, dim_feedforward=2 * rank, dropout=0.1, batch_first=True, norm_first=True
        )
        self.up = _zero(nn.Linear(rank, width, bias=False))
        # Adds qᵀ E S k to qᵀ k for a candidate k; applied from both sides, it costs the rank and not the width.
        self.shrink = nn.Linear(width, rank, bias=False)
        self.expand = _zero(nn.Linear(width, rank, bias=False))

    def queries(self, history: Tensor) -> Tensor:
        vectors, present, lengths = self.directions[history], history > 0, _lengths(history)
        mean = vectors.sum(dim=1) / lengths[:, None]
        age = (lengths[:, None] - 1 - torch.arange(history.shape[1])).clamp(min=0)
        # An empty history attends to its padding alone.
        hidden = ~present
        hidden[:, 0] = False
        states = self.block(self.down(vectors) + self.recency[age], src_key_padding_mask=hidden)
        last = states[torch.arange(len(history)), lengths - 1]
        query = mean + self.up(last)
        return torch.cat([query, self.expand(query)], dim=1)

    def keys(self, vectors: Tensor) -> Tensor:
        return torch.cat([vectors, self.shrink(vectors)], dim=1)


class LexicalProxy(ProxyModel):
    """Attention pooling and a bilinear form over directions of the titles' spelling."""

    def __init__(self, directions: Tensor, max_items: int) -> None:
        super().__init__(directions)
        width = directions.shape[1]
        self.attention = nn.Parameter(torch.zeros(width))
        self.recency = nn.Parameter(torch.zeros(max_items))
        self.bilinear = nn.Parameter(torch.zeros(width, width))

    def queries(self, history: Tensor) -> Tensor:
        vectors, lengths = self.directions[history], _lengths(history)
        age = (lengths[:, None] - 1 - torch.arange(history.shape[1])).clamp(min=0)
        # Equal at first, so that the pool is the mean.
        attention = vectors @ self.attention + self.recency[age]
        attention = attention.masked_fill(torch.arange(history.shape[1]) >= lengths[:, None], -torch.inf)
        pooled = (attention.softmax(dim=1)[:, :, None] * vectors).sum(dim=1)
        return pooled + pooled @ self.bilinear

    def keys(self, vectors: Tensor) -> Tensor:
        return vectors


SEMANTIC, LEXICAL = "semantic", "lexical"
#: Name of a proxy → builds it from directions [n, d] and the longest history.
PROXIES: Mapping[str, Callable[[Tensor, int], ProxyModel]] = {SEMANTIC: SemanticProxy, LEXICAL: LexicalProxy}


def build_proxy(name: str, directions: Tensor, max_items: int, seed: int) -> ProxyModel:
    """Build the proxy of a name; its random factors come from the seed, and no other random state is moved."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PROXIES[name](directions, max_items)


def _lengths(history: Tensor) -> Tensor:
    """Return the number of items of each history, int64 [B]; 1 for an empty one, whose only item is the padding."""
    return (history > 0).sum(dim=1).clamp(min=1)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    return layer
