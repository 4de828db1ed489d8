"""Whether a language model reads ahead: whether a token changes what is predicted before it."""

from __future__ import annotations

import torch
from torch import nn

from scoring.exceptions import ScoringError
from scoring.recorded_pass import record_pass

_TOKENS = 16


def reads_ahead(model: nn.Module) -> bool:
    """Whether the logits at the first half of a text have a gradient with respect to the tokens of the second.

    A causal mask gives later tokens a weight of exactly zero, so the answer does not depend on rounding. The model is
    called as `scoring.projections.find_structure` calls it. Raises ScoringError if it looks up no token embedding.
    """
    record = record_pass(model, _TOKENS)
    if not record.tokens:
        raise ScoringError(f"{type(model).__name__} looks up no embedding of its tokens")
    half = _TOKENS // 2
    early = record.logits[0, :half].float()
    # Any weights do but equal ones, under which what a normalisation passes back can cancel.
    weights = torch.linspace(-1, 1, early.numel(), device=early.device).sin().view_as(early)
    gradients = torch.autograd.grad((early * weights).sum(), record.tokens, allow_unused=True)
    late = [g.reshape(-1, g.shape[-1])[half - _TOKENS :] for g in gradients if g is not None]
    # What overflows in float16 says nothing.
    return any(bool(((g != 0) & g.isfinite()).any()) for g in late)
