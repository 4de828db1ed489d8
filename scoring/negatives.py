"""The distribution of sampled negatives, and drawing from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scoring.exceptions import SettingError


def proposal(item_count: int, item_counts: Sequence[int] | Tensor | None) -> Tensor:
    """Return the probability of drawing each of the items 1..V, float64 [V].

    Half is uniform and half proportional to popularity. Popular items carry most of the softmax's mass, and the uniform
    half keeps the importance weights of rare items below 2V. Without counts, it is all uniform.
    """
    uniform = torch.full((item_count,), 1.0 / item_count, dtype=torch.float64)
    if item_counts is None:
        return uniform
    counts = torch.as_tensor(item_counts, dtype=torch.float64)
    if counts.shape != (item_count,):
        raise SettingError(f"item counts must be given for all {item_count} items, got shape {tuple(counts.shape)}")
    total = counts.sum()
    return uniform if total == 0 else (uniform + counts / total) / 2


def draw_negatives(probability: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw items from 1 with replacement, int64 [count]; a pure function of the state of the (CPU) generator."""
    cumulative = probability.cpu().cumsum(0)
    draws = torch.rand(count, generator=generator, dtype=torch.float64) * cumulative[-1]
    items = torch.searchsorted(cumulative, draws, right=True).clamp(max=len(probability) - 1) + 1
    return items.to(probability.device)
