"""A model in two parts against the whole model with the same adapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from cluster.errors import UserError
from tests.tiny_llm import OTHER_FAMILIES, make_model, make_other
from training.llm.decoder_layers import decoder_layers
from training.llm.llm_spec import LoraSpec
from training.llm.lora import attach_lora
from training.llm.miniature import miniature, miniature_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import IGNORED, TokenBatch, collate
from training.llm.trunk import Trunk

LAYERS, UPPER = 4, 2
PROMPTS = [
    EncodedPrompt([5, 9, 200, 31, 77, 12, 90, 45], 5),
    EncodedPrompt([8, 3, 150, 61, 7, 99, 14, 250, 33, 71, 18, 6, 122], 9),
    EncodedPrompt([301, 44, 17], 1),
]
#: Kinds of layers beside attention, and switches that act between layers, by the names of their configurations.
CONFIGS = ("Gemma2Config", "Gemma3TextConfig", "Cohere2Config", "Lfm2Config", "BambaConfig", "FalconMambaConfig")


def build(name: str) -> Any:
    if name in OTHER_FAMILIES:
        return make_other(name, layers=LAYERS)
    if name.endswith("Config"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return miniature_model(miniature(getattr(transformers, name)(), layers=LAYERS)).float().eval()
    return make_model(name, layers=LAYERS)


def losses(model: Any, batch: TokenBatch) -> Tensor:
    logits = model(**batch.model_inputs(), use_cache=False).logits[:, :-1]
    each = functional.cross_entropy(logits.transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORED, reduction="none")
    return each.sum(dim=1)


def gradients(model: Any, total: Tensor) -> dict[str, Tensor]:
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # Some state space models read weights past the maps that hold them, so LoRA there has no gradient.
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None}


def states_of(trunk: Trunk, ids: list[int]) -> Tensor:
    """What the trunk hands up for one sequence behind which there is padding."""
    padded = torch.tensor([[*ids, 0, 0, 0]])
    return trunk.states(padded, torch.tensor([len(ids)]))[0, : len(ids)]


def stacked(trunk: Trunk, batch: TokenBatch) -> Tensor:
    width = batch.input_ids.shape[1]
    rows = [states_of(trunk, prompt.input_ids) for prompt in PROMPTS]
    return torch.stack([functional.pad(row, (0, 0, width - len(row), 0)) for row in rows])


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", *OTHER_FAMILIES, *CONFIGS])
def test_losses_and_gradients_are_those_of_the_whole_model(name: str) -> None:
    adapted = attach_lora(build(name), LoraSpec(r=4, targets=("all-linear",), layers=UPPER))
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if ".lora_B." in key:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(key)))
    batch = collate(PROMPTS, 0)
    whole = losses(adapted, batch)
    wanted = gradients(adapted, whole.sum())
    upper = decoder_layers(adapted)[-UPPER:]
    assert wanted
    assert all(any(key.startswith(f"{layer}.") for layer in upper) for key in wanted)
    trunk = Trunk(adapted, UPPER)
    with trunk.above(stacked(trunk, batch)):
        parted = losses(adapted, batch)
        found = gradients(adapted, parted.sum())
    torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-5)
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max() + 1e-6))
    # Outside of the block the model is whole again.
    torch.testing.assert_close(losses(adapted, batch), whole, rtol=0, atol=0)


@pytest.mark.parametrize("layers", [2, 3])
def test_more_layers_than_there_are_are_refused(layers: int) -> None:
    with pytest.raises(UserError, match=f"finetune.layers is {layers}, but the model has 2 decoder layers"):
        attach_lora(make_model(layers=2), LoraSpec(layers=layers))


def test_layers_that_read_more_than_hidden_states_are_refused() -> None:
    """Gemma 3n computes keys and values of its last layers in earlier ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = miniature_model(miniature(transformers.Gemma3nTextConfig())).float().eval()
    with pytest.raises(UserError, match="read more from those below"):
        Trunk(model, 1)


def test_states_do_not_depend_on_dropout_or_on_the_mode() -> None:
    model = make_model("gpt2", layers=LAYERS)
    trunk = Trunk(model, UPPER)
    ids = list(PROMPTS[1].input_ids)
    wanted = states_of(trunk, ids)
    model.transformer.h.train()
    modes = {name: module.training for name, module in model.named_modules()}
    torch.testing.assert_close(states_of(trunk, ids), wanted, rtol=0, atol=0)
    assert {name: module.training for name, module in model.named_modules()} == modes
