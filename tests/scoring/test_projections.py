from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scoring.exceptions import NoAttentionError, ScoringError
from scoring.projections import Attention, find_structure
from tests.tiny_llm import OTHER_FAMILIES, make_model, make_other
from training.llm.llm_spec import LoraSpec
from training.llm.lora import attach_lora

EXPECTED = {
    "llama": ("model.layers.1.self_attn", "q_proj", "k_proj", "v_proj"),
    "qwen2": ("model.layers.1.self_attn", "q_proj", "k_proj", "v_proj"),
    "gpt2": ("transformer.h.1.attn", "c_attn", "c_attn", "c_attn"),
}


def attention(module: str, query: str, key: str, value: str) -> Attention:
    return Attention(module, (f"{module}.{query}",), (f"{module}.{key}",), (f"{module}.{value}",))


@pytest.mark.parametrize("architecture", EXPECTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projections_are_found_by_function(architecture, dtype):
    found = find_structure(make_model(architecture).to(dtype))
    assert found.attention[-1] == attention(*EXPECTED[architecture])
    assert len(found.attention) == len(found.layers) == 2
    assert found.other_kinds == ()
    assert found.attention[-1].fused == ("qkv" if architecture == "gpt2" else "")


OTHERS = {
    "Qwen3": ("model.layers.1.self_attn", "q_proj", "k_proj", "v_proj"),
    "Phi3": ("model.layers.1.self_attn", "qkv_proj", "qkv_proj", "qkv_proj"),
    "Mixtral": ("model.layers.1.self_attn", "q_proj", "k_proj", "v_proj"),
    "GPTNeoX": ("gpt_neox.layers.1.attention", "query_key_value", "query_key_value", "query_key_value"),
    "OPT": ("model.decoder.layers.1.self_attn", "q_proj", "k_proj", "v_proj"),
    "Bloom": ("transformer.h.1.self_attention", "query_key_value", "query_key_value", "query_key_value"),
}


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_other_families_need_no_word_of_their_own(family):
    assert find_structure(make_other(family)).attention[-1] == attention(*OTHERS[family])


def test_an_adapter_does_not_hide_the_projection_it_wraps():
    model = attach_lora(make_model("llama"), LoraSpec(r=2))
    (name,) = find_structure(model).value
    assert name.endswith("model.layers.1.self_attn.v_proj")
    assert hasattr(model.get_submodule(name), "lora_B")


def test_probing_leaves_no_hook_and_keeps_mode_and_parameters():
    model = make_model("llama").train().requires_grad_(False)
    find_structure(model)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


class Layer(nn.Module):
    """Hand-written attention: a gate and a dynamic shift stand beside query, key and value and run before them."""

    def __init__(self, width: int, weighs: bool) -> None:
        super().__init__()
        self.weighs = weighs
        self.gate = nn.Linear(width, width)
        self.one = nn.Linear(width, width)
        self.two = nn.Linear(width, width)
        self.three = nn.Linear(width, width)
        self.shift = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        content = self.three(x)
        taps = self.shift(x)
        content = content * (1 + taps[..., :1]) + content.roll(1, dims=1) * taps[..., 1:]
        if self.weighs:
            scores = self.two(x) @ self.one(x).mT
            later = torch.ones_like(scores, dtype=torch.bool).triu(1)
            content = scores.masked_fill(later, -torch.inf).softmax(-1) @ content
        return x + gate * content


class Model(nn.Module):
    def __init__(self, weighs: tuple[bool, ...], width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.blocks = nn.ModuleList(Layer(width, one) for one in weighs)
        self.tower = nn.ModuleList(Layer(width, True) for _ in range(9))
        self.head = nn.Linear(width, 50)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, input_ids: Tensor, use_cache: bool) -> Model:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        self.logits = self.head(x)
        return self


def test_what_only_weighs_a_value_is_no_value_map_and_the_last_layer_need_not_attend():
    found = find_structure(Model((True, False, True, False)))
    assert found.attention == tuple(attention(f"blocks.{place}", "two", "one", "three") for place in (0, 2))
    assert found.value == ("blocks.2.three",)
    assert found.targets == ("blocks.0.two", "blocks.0.three", "blocks.2.two", "blocks.2.three")
    assert found.layers == ("blocks.0", "blocks.1", "blocks.2", "blocks.3")
    assert found.other_kinds == ("Layer", "Layer")


def test_without_attention_there_is_no_value_projection():
    with pytest.raises(NoAttentionError, match="Model has no attention"):
        find_structure(Model((False, False)))


def test_values_that_no_linear_map_makes_are_refused():
    model = Model((True, True))
    model.blocks[1].three = nn.Identity()
    with pytest.raises(ScoringError, match=r"the values of blocks\.1 of Model come from no linear map"):
        find_structure(model)
