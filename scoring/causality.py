"""A test for causal language models: whether a token changes the predictions before it."""

from __future__ import annotations

import torch
from torch import nn

from scoring.exceptions import ScoringError
from scoring.recorded_pass import record_pass

_TOKENS = 16


def reads_ahead(model: nn.Module) -> bool:
    """Return whether the logits of a text's first half have a gradient in the tokens of its second half.

    A causal mask gives later tokens a weight of exactly zero, so the answer does not depend on rounding. The model is
    called as in `scoring.projections.find_structure`. Raises `ScoringError` if it looks up no token embeddings.
    """
    record = record_pass(model, _TOKENS)
    if not record.tokens:
        raise ScoringError(f"{type(model).__name__} looks up no token embeddings")
    half = _TOKENS // 2
    early = record.logits[0, :half].float()
    # Any unequal weights will do. With equal ones, the gradients through a normalisation can cancel.
    weights = torch.linspace(-1, 1, early.numel(), device=early.device).sin().view_as(early)
    gradients = torch.autograd.grad((early * weights).sum(), record.tokens, allow_unused=True)
    late = [g.reshape(-1, g.shape[-1])[half - _TOKENS :] for g in gradients if g is not None]
    # Overflow in float16 is no evidence.
    return any(bool(((g != 0) & g.isfinite()).any()) for g in late)
