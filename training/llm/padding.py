"""Check that a language model masks padding, which batches of prompts of unequal length require."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cluster.errors import UserError
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS, _PADDING = 8, 16
#: Relative to the norm of the logits: far above bfloat16 rounding, far below the effect of other preceding tokens.
_TOLERANCE = 0.1


def require_padding(model: PreTrainedModel, name: str) -> None:
    """Compare the model's output for a prompt alone and padded, in two short passes.

    Some architectures (RWKV, decoders like BART's) ignore `attention_mask` or `position_ids`, so results for a batch
    would be silently wrong. Raises `UserError` for llm.model.
    """
    # Spread over the vocabulary, since its first tokens are special ones with unusually large states.
    length = _TOKENS + _PADDING
    size = int(model.get_input_embeddings().weight.shape[0])
    ids = [(position + 1) * size // (length + 1) for position in range(length)]
    prompts = [EncodedPrompt(ids[:_TOKENS], _TOKENS), EncodedPrompt(ids, length)]
    alone, padded = _last_logits(model, prompts[:1]), _last_logits(model, prompts)
    if float((alone - padded).norm()) > _TOLERANCE * float(alone.norm()):
        raise UserError(
            f"llm.model: the output of {name} depends on the padding before a prompt.",
            remedy="Use a model whose attention uses a mask and positions, such as one of the Llama or Qwen families.",
        )


@torch.inference_mode()
def _last_logits(model: PreTrainedModel, prompts: list[EncodedPrompt]) -> Tensor:
    """Return the first prompt's last logits, float32 [V]."""
    device = next(model.parameters()).device
    batch = collate(prompts, pad_id=0).to(device)
    logits: Tensor = model(**batch.model_inputs(), use_cache=False).logits[0, -1]
    return logits.float()
