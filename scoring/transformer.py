"""A pre-norm transformer block of plain linear layers, with forward-mode derivatives throughout.

Fused attention kernels have none, hence the attention spelt out here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a position attends to itself and to earlier ones."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, queries: Tensor, visible: Tensor) -> Tensor:
        """[B, Q, d] from states [B, T, d], queries [B, Q, d] and bool [B or 1, Q, T] of visible positions."""
        query, key, value = (
            self._split(layer(source))
            for layer, source in ((self.query, queries), (self.key, states), (self.value, states))
        )
        scores = query @ key.mT * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1)
        mixed = self.dropout(weights) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        """[B, heads, T, d / heads]."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers of the model's width with a GELU between, as smooth as second derivatives ask."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        return self.outer(self.dropout(functional.gelu(self.inner(states))))


class Block(nn.Module):
    """Attention, then a position-wise feed-forward; each reads the residual stream through a norm."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = CausalAttention(hidden, heads, dropout)
        self.feed_norm = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, d] from [B, T, d], causal."""
        places = torch.arange(states.shape[1], device=states.device)
        visible = (places[None, :] <= places[:, None])[None]
        normed = self.attention_norm(states)
        return self.feed(states + self.dropout(self.attention(normed, normed, visible)))

    def at(self, states: Tensor, position: Tensor) -> Tensor:
        """[B, d], what `forward` gives at `position` [B], without computing any other position."""
        return self.feed(self.attend_at(states, position))

    def attend_at(self, states: Tensor, position: Tensor) -> Tensor:
        """[B, d], the residual stream at `position` [B] after the attention, before the feed-forward."""
        places = torch.arange(states.shape[1], device=states.device)
        visible = (places <= position[:, None])[:, None]
        here = position[:, None, None].expand(-1, 1, states.shape[2])
        normed = self.attention_norm(states)
        attended = self.attention(normed, normed.gather(1, here), visible)
        return (states.gather(1, here) + self.dropout(attended)).squeeze(1)

    def feed(self, states: Tensor) -> Tensor:
        """The feed-forward's step on states [..., d], each position by itself."""
        return states + self.dropout(self.feed_forward(self.feed_norm(states)))
