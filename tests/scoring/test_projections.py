from __future__ import annotations

import pytest
import torch
from torch import nn

from scoring.errors import ScoringError
from scoring.projections import find_projections, last_decoder_layer
from tests.tiny_llm import OTHER_FAMILIES, make_model, make_other
from training.llm_spec import LoraSpec
from training.lora import attach_lora

EXPECTED = {
    "llama": ("model.layers.1", "self_attn.q_proj", "self_attn.v_proj"),
    "qwen2": ("model.layers.1", "self_attn.q_proj", "self_attn.v_proj"),
    "gpt2": ("transformer.h.1", "attn.c_attn", "attn.c_attn"),
}


@pytest.mark.parametrize("architecture", EXPECTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projections_are_found_by_structure(architecture, dtype):
    layer, query, value = EXPECTED[architecture]
    found = find_projections(make_model(architecture).to(dtype))
    assert (found.layer, found.query, found.value) == (layer, f"{layer}.{query}", f"{layer}.{value}")
    assert found.siblings() == tuple(dict.fromkeys((query, value)))


OTHERS = {
    "Qwen3": ("model.layers.1.self_attn", "q_proj", "v_proj"),
    "Phi3": ("model.layers.1.self_attn", "qkv_proj", "qkv_proj"),
    "Mixtral": ("model.layers.1.self_attn", "q_proj", "v_proj"),
    "GPTNeoX": ("gpt_neox.layers.1.attention", "query_key_value", "query_key_value"),
    "OPT": ("model.decoder.layers.1.self_attn", "q_proj", "v_proj"),
    "Bloom": ("transformer.h.1.self_attention", "query_key_value", "query_key_value"),
}


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_other_families_need_no_word_of_their_own(family):
    attention, query, value = OTHERS[family]
    found = find_projections(make_other(family))
    assert (found.query, found.value) == (f"{attention}.{query}", f"{attention}.{value}")


def test_an_adapter_does_not_hide_the_projection_it_wraps():
    model = attach_lora(make_model("llama"), LoraSpec(r=2))
    name = find_projections(model).value
    assert name.endswith("model.layers.1.self_attn.v_proj")
    assert hasattr(model.get_submodule(name), "lora_B")


def test_probing_leaves_no_hook_and_keeps_the_mode():
    model = make_model("llama").train()
    find_projections(model)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_decoder_layers_are_the_longest_outermost_list():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
            self.blocks = nn.ModuleList(Block() for _ in range(3))

    name, layer = last_decoder_layer(Model())
    assert name == "blocks.2"
    assert isinstance(layer, Block)


def test_a_model_without_layers_is_refused():
    with pytest.raises(ScoringError, match="no list of decoder layers"):
        last_decoder_layer(nn.Linear(2, 2))
