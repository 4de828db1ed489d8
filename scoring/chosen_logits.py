"""Logits at chosen positions only.

A small LLM's output layer is its largest map, and no loss needs it at prompt tokens or padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def chosen_logits(head: nn.Module, chosen: Tensor) -> Iterator[None]:
    """Pass only the chosen positions to the head inside the block, so that a model's logits are [1, N, V].

    Parameters
    ----------
    head : the model's output layer, which takes hidden states [B, T, d] or their last columns, at least W.
    chosen : bool [B, W], N of which are True, for the last W columns. Logits come in row-major order.
    """

    def pick(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, -chosen.shape[1] :][chosen][None], *args[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
