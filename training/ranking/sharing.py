"""Tests whether a model's cache lets the continuations of a prompt share it; the model's name does not decide."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.llm.miniature import miniature, miniature_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate
from training.ranking.shared_prompt import SharedPrompts
from training.ranking.title_packs import TitlePack, pack_titles

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Largest difference of logits relative to their spread. Another mask or position exceeds it; rounding does not, which
#: made 0.03 of it in bfloat16 and 2e-6 in float32 through the 30 layers of SmolLM2-135M.
_TOLERANCE = {torch.float32: 1e-3}
_HALF_TOLERANCE = 0.1
#: Names in transformers' configurations for the number of tokens that a layer looks back.
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "local_attention_window", "attention_window_size")

log = logging.getLogger("dealrec.run")


def shares_prompts(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[EncodedPrompt],
    responses: Sequence[Sequence[int]],
    longest: int,
) -> bool:
    """Return whether the model reads a tree of responses behind prompts as it reads each response by itself.

    The two ways are compared on the model itself, in a few passes. The log says why where they differ.

    Parameters
    ----------
    prompts, responses : a few of each, of different lengths.
    longest : tokens of a prompt and a response at most; a layer that does not look back as far needs the plain way.
    """
    reason = _reason_against(model, prompts, responses, longest)
    if reason is not None:
        log.info("The continuations of a prompt do not share it in the cache: %s.", reason)
    return reason is None


def _reason_against(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[EncodedPrompt],
    responses: Sequence[Sequence[int]],
    longest: int,
) -> str | None:
    config = model.config.get_text_config()
    windows = [value for name in _WINDOWS if isinstance(value := getattr(config, name, None), int)]
    if getattr(config, "use_sliding_window", True) and windows and min(windows) < longest:
        return f"a layer looks back {min(windows)} tokens, and prompt and title take up to {longest}"
    if model.get_input_embeddings().weight.dtype not in _TOLERANCE:
        reason = _reason_in_float32(model, prompts, responses)
        if reason is not None:
            return reason
    return _reason_by_trial(model, prompts, responses)


def _reason_in_float32(
    model: PreTrainedModel | PeftModel, prompts: Sequence[EncodedPrompt], responses: Sequence[Sequence[int]]
) -> str | None:
    """Try a small random copy of the model in float32, in which no rounding hides a difference."""
    try:
        small = miniature_model(miniature(model.config)).to(next(model.parameters()).device)
    except Exception as error:  # noqa: BLE001 - whatever the library raises at sizes that do not go together
        return f"no small copy of the model can be tried ({type(error).__name__})"
    size = int(small.get_input_embeddings().weight.shape[0])
    folded = [EncodedPrompt([token % size for token in p.input_ids], p.response_start) for p in prompts]
    few = sorted({tuple(token % size for token in response) for response in responses})
    return _reason_by_trial(small, folded, few)


def _reason_by_trial(
    model: PreTrainedModel | PeftModel, prompts: Sequence[EncodedPrompt], responses: Sequence[Sequence[int]]
) -> str | None:
    (pack,) = pack_titles(responses, sum(map(len, responses)))
    try:
        tree = _in_a_tree(model, prompts, pack)
    except Exception as error:  # noqa: BLE001 - a model without this kind of cache or mask may raise anything
        return f"the model takes no tree of tokens ({type(error).__name__})"
    if tree is None:
        return "the model keeps more than the keys and values of its attention"
    apart = _one_by_one(model, prompts, responses, pack)
    # What all logits of a token have in common changes no probability.
    tree, apart = (logits - logits.mean(dim=-1, keepdim=True) for logits in (tree, apart))
    difference = float((tree - apart).norm() / apart.norm())
    if difference <= _TOLERANCE.get(model.get_input_embeddings().weight.dtype, _HALF_TOLERANCE):
        return None
    return f"a tree of tokens gives other logits than its branches do, by {difference:.2g} of their spread"


@torch.inference_mode()
def _in_a_tree(model: PreTrainedModel | PeftModel, prompts: Sequence[EncodedPrompt], pack: TitlePack) -> Tensor | None:
    """Return the logits behind each token of the pack, float32 [prompts, T, V]; None with a cache of another kind."""
    device, count = next(model.parameters()).device, len(prompts)
    shared = SharedPrompts(model, collate(prompts, pad_id=0).to(device))
    pack = pack.to(device)
    # What is forgotten leaves no trace.
    for _ in range(2):
        logits = shared.read(
            pack.tokens.expand(count, -1), pack.visible.expand(count, -1, -1), pack.depths.expand(count, -1)
        )
        if not shared.holds_keys_alone:
            return None
        shared.forget(len(pack))
    return logits.float()


@torch.inference_mode()
def _one_by_one(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[EncodedPrompt],
    responses: Sequence[Sequence[int]],
    pack: TitlePack,
) -> Tensor:
    """Return the same, each response read behind each prompt as one sequence."""
    device = next(model.parameters()).device
    found = []
    for prompt in prompts:
        rows: list[Tensor | None] = [None] * len(pack)
        for row, last in zip(pack.rows.tolist(), pack.last.tolist(), strict=True):
            ids = torch.tensor([[*prompt.input_ids, *responses[row][:-1]]], device=device)
            logits = model(input_ids=ids, use_cache=False).logits[0].float()
            branch = pack.visible[last].nonzero().flatten().tolist() if last >= 0 else []
            for token in branch:
                rows[token] = logits[len(prompt.input_ids) + int(pack.depths[token])]
        found.append(torch.stack([row for row in rows if row is not None]))
    return torch.stack(found)
