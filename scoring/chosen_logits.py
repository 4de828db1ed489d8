"""Logits at chosen positions only.

A small LLM's output layer is its largest map, and no loss needs it at prompt tokens or padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def chosen_logits(head: nn.Module, predicted: Tensor) -> Iterator[None]:
    """Pass to the head only the positions whose next token counts, so that a model's logits are [1, N, V] in the block.

    Parameters
    ----------
    head : the model's output layer, which takes hidden states [B, T, d] or their last columns, more than W.
    predicted : bool [B, W], which of the last W tokens count, N in all; each is predicted one column before its own.
        Logits come in row-major order.
    """

    def pick(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, -predicted.shape[1] - 1 : -1][predicted][None], *args[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
