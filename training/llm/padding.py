"""Whether a language model leaves padding out, as batches of prompts of unequal length ask of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cluster.errors import UserError
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate

_TOKENS, _PADDING = 8, 16
#: Of the logits' norm: far above the rounding of bfloat16, far below what other tokens before a prompt do to it.
_TOLERANCE = 0.1


def require_padding(model: Any, name: str) -> None:
    """Ask the model the same prompt alone and padded, in two short passes.

    Some architectures (RWKV, decoders of BART's kind) take no notice of `attention_mask` or `position_ids`; whatever
    is computed of a batch is then wrong without an error. Raises `UserError` naming llm.model.
    """
    # Spread over the vocabulary, whose first tokens are special ones with states far larger than others'.
    length = _TOKENS + _PADDING
    size = int(model.get_input_embeddings().weight.shape[0])
    ids = [(place + 1) * size // (length + 1) for place in range(length)]
    prompts = [EncodedPrompt(ids[:_TOKENS], _TOKENS), EncodedPrompt(ids, length)]
    alone, padded = _last_logits(model, prompts[:1]), _last_logits(model, prompts)
    if float((alone - padded).norm()) > _TOLERANCE * float(alone.norm()):
        raise UserError(
            f"llm.model: what {name} answers depends on the padding before a prompt.",
            remedy="Use a model whose attention takes a mask and positions, such as one of the Llama or Qwen families.",
        )


@torch.inference_mode()
def _last_logits(model: Any, prompts: list[EncodedPrompt]) -> Tensor:
    """float32 [V], the first prompt's."""
    device = next(model.parameters()).device
    batch = collate(prompts, pad_id=0).to(device)
    logits: Tensor = model(**batch.model_inputs(), use_cache=False).logits[0, -1]
    return logits.float()
