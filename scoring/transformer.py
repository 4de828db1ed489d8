"""A pre-norm transformer block of plain linear layers that supports forward-mode derivatives throughout.

Fused attention kernels do not, so attention is written out here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalAttention(nn.Module):
    """Multi-head self-attention in which each position attends to itself and to earlier ones."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, queries: Tensor, visible: Tensor) -> Tensor:
        """Return [B, Q, d] from states [B, T, d], queries [B, Q, d] and visible positions, bool [B or 1, Q, T]."""
        query, key, value = (
            self._split(layer(source))
            for layer, source in ((self.query, queries), (self.key, states), (self.value, states))
        )
        scores = query @ key.mT * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1)
        mixed = self.dropout(weights) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        """Split heads, [B, heads, T, d / heads]."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers of the model's width with a GELU in between, which is smooth enough for second derivatives."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        return self.outer(self.dropout(functional.gelu(self.inner(states))))


class Block(nn.Module):
    """Attention followed by a position-wise feed-forward layer, each reading the residual stream through a norm."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = CausalAttention(hidden, heads, dropout)
        self.feed_norm = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Apply the block causally, [B, T, d] from [B, T, d]."""
        positions = torch.arange(states.shape[1], device=states.device)
        visible = (positions[None, :] <= positions[:, None])[None]
        normed = self.attention_norm(states)
        return self.feed(states + self.dropout(self.attention(normed, normed, visible)))

    def at(self, states: Tensor, position: Tensor) -> Tensor:
        """Return `forward` at `position` [B], [B, d], without computing any other position."""
        return self.feed(self.attend_at(states, position))

    def attend_at(self, states: Tensor, position: Tensor) -> Tensor:
        """Return the residual stream at `position` [B] after attention, before the feed-forward layer, [B, d]."""
        positions = torch.arange(states.shape[1], device=states.device)
        visible = (positions <= position[:, None])[:, None]
        here = position[:, None, None].expand(-1, 1, states.shape[2])
        normed = self.attention_norm(states)
        attended = self.attention(normed, normed.gather(1, here), visible)
        return (states.gather(1, here) + self.dropout(attended)).squeeze(1)

    def feed(self, states: Tensor) -> Tensor:
        """Apply the feed-forward layer to states [..., d], each position separately."""
        return states + self.dropout(self.feed_forward(self.feed_norm(states)))
