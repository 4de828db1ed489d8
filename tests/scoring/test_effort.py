from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from scoring.effort import EffortScorer, _loss_gradient, _squared_norms, _token_rows
from scoring.exceptions import ScopeError, SettingError
from tests.tiny_llm import OTHER_FAMILIES, VOCABULARY, make_model, make_other
from training.llm.llm_spec import LoraSpec
from training.llm.lora import attach_lora
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate

ARCHITECTURES = ("llama", "qwen2", "gpt2")


def adapted(architecture, dtype=torch.float32, b_scale=0.0, dropout=0.0, targets=None):
    """Return a tiny model with LoRA; with `b_scale`, B is random, so that A has a gradient too."""
    model = attach_lora(make_model(architecture).to(dtype), LoraSpec(r=3, alpha=6, dropout=dropout, targets=targets))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = b_scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return model


def prompts(shapes, seed=0):
    generator = np.random.default_rng(seed)
    return [
        EncodedPrompt(generator.integers(3, VOCABULARY, start + response).tolist(), start) for start, response in shapes
    ]


def loop(model, encoded, scope, tokens):
    """Compute one sample at a time by plain autograd, without padding."""
    value = "layers.1.self_attn.v_proj.lora_B", "h.1.attn.c_attn.lora_B"
    chosen = [
        parameter
        for name, parameter in model.named_parameters()
        if ("lora_" in name if scope == "all" else any(part in name for part in value))
    ]
    for parameter in chosen:
        parameter.requires_grad_(True)
    norms = []
    for prompt in encoded:
        ids = torch.tensor([prompt.input_ids])
        start = prompt.response_start if tokens == "response" else 1
        logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1]
        loss = functional.cross_entropy(logits, ids[0, start:])
        gradients = torch.autograd.grad(loss, chosen)
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
    return np.array(norms)


SHAPES = [(9, 3), (4, 1), (17, 6), (9, 4), (2, 9)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("scope", ["last_v", "all"])
@pytest.mark.parametrize("tokens", ["response", "all"])
@pytest.mark.parametrize("b_scale", [0.0, 0.3])
def test_norms_equal_a_one_sample_loop(architecture, scope, tokens, b_scale):
    encoded = prompts(SHAPES)
    expected = loop(adapted(architecture, torch.float64, b_scale), encoded, scope, tokens)
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        scorer = EffortScorer(adapted(architecture, dtype, b_scale), scope, tokens)
        norms = scorer.per_sample_norms(collate(encoded, pad_id=0))
        assert norms.dtype == np.float32
        np.testing.assert_allclose(norms, expected, rtol=tolerance)
    assert len(set(norms.tolist())) == len(encoded)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_bfloat16_a_row_depends_on_its_batch_by_rounding_alone(architecture):
    encoded = prompts(SHAPES)
    scorer = EffortScorer(adapted(architecture, torch.bfloat16, 0.3), "all")
    together = scorer.per_sample_norms(collate(encoded, pad_id=0))
    alone = [scorer.per_sample_norms(collate([prompt], pad_id=0))[0] for prompt in encoded]
    np.testing.assert_allclose(together, alone, rtol=0.03)


@pytest.mark.parametrize("shape", [(5, 7, 3), (40, 3, 2)])
def test_norms_of_bfloat16_tensors_are_summed_in_float32(shape):
    columns, inner, outer = shape
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, columns, inner, generator=generator).bfloat16()
    gradients = torch.randn(4, columns, outer, generator=generator).bfloat16()
    padding = torch.zeros(4, columns, dtype=torch.bool)
    exact = torch.einsum("bto,bti->boi", gradients.double(), inputs.double()).square().sum(dim=(1, 2))
    found = _squared_norms(*_token_rows(inputs, gradients, padding))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), exact.numpy(), rtol=1e-5)


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_norms_of_other_families_equal_a_one_sample_loop(family):
    encoded = prompts(SHAPES)
    model = attach_lora(make_other(family), LoraSpec(r=3, alpha=6))
    norms = EffortScorer(model, "last_v").per_sample_norms(collate(encoded, pad_id=0))
    (tuned,) = EffortScorer(model, "last_v").modules
    weight = tuned.get_parameter("weight").requires_grad_(True)
    expected = []
    for prompt in encoded:
        ids = torch.tensor([prompt.input_ids])
        logits = model(input_ids=ids, use_cache=False).logits[0, prompt.response_start - 1 : -1]
        loss = functional.cross_entropy(logits, ids[0, prompt.response_start :])
        expected.append(float(torch.autograd.grad(loss, weight)[0].norm()))
    assert min(expected) > 0
    np.testing.assert_allclose(norms, expected, rtol=1e-3)


@pytest.mark.parametrize("columns", [3, 60])
def test_both_contractions_agree_with_the_loop(columns):
    # Short rows are contracted over time, long ones into the gradient's own shape.
    encoded = prompts([(columns, 2), (columns - 1, 3)])
    expected = loop(adapted("llama", torch.float64, 0.3), encoded, "all", "response")
    norms = EffortScorer(adapted("llama", torch.float64, 0.3), "all").per_sample_norms(collate(encoded, 0))
    np.testing.assert_allclose(norms, expected, rtol=1e-6)


SCORERS = {name: EffortScorer(adapted(name, torch.float64), "last_v") for name in ARCHITECTURES}


@settings(max_examples=25, deadline=None)
@given(
    architecture=st.sampled_from(ARCHITECTURES),
    shapes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 8)), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_row_does_not_depend_on_its_batch(architecture, shapes, data):
    encoded = prompts(shapes)
    scorer = SCORERS[architecture]
    order = data.draw(st.permutations(range(len(encoded))))
    together = scorer.per_sample_norms(collate(encoded, 0, order))
    alone = [scorer.per_sample_norms(collate(encoded, 0, [row]))[0] for row in order]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_dropout_is_off_and_scoring_repeats():
    batch = collate(prompts(SHAPES), 0)
    scorer = EffortScorer(adapted("llama", dropout=0.5).train(), "all")
    np.testing.assert_array_equal(scorer.per_sample_norms(batch), scorer.per_sample_norms(batch))


def test_scoring_leaves_the_model_frozen_and_without_hooks():
    model = adapted("llama")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    EffortScorer(model, "last_v").per_sample_norms(collate(prompts(SHAPES), 0))
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    assert not layer.disable_adapters


def test_below_the_tuned_layer_nothing_is_differentiated():
    model = adapted("llama")
    seen = {}

    def note(name):
        def hook(module, args, output):
            seen[name] = output.requires_grad

        return hook

    layers = model.base_model.model.model.layers
    layers[0].mlp.down_proj.register_forward_hook(note("below"))
    layers[1].self_attn.k_proj.register_forward_hook(note("key"))
    layers[1].mlp.down_proj.register_forward_hook(note("above"))
    EffortScorer(model, "last_v").per_sample_norms(collate(prompts(SHAPES), 0))
    assert seen == {"below": False, "key": False, "above": True}


def test_float16_keeps_the_small_probabilities_of_long_samples():
    """With a vocabulary of 50,000 and 300 tokens, each gradient is 6.7e-8, about float16's smallest number."""
    tokens, vocabulary, scale = 300, 50_000, 1024.0
    logits = torch.zeros(tokens, vocabulary, dtype=torch.float16)
    targets = torch.arange(tokens)
    counted = torch.ones(1, tokens, dtype=torch.bool)
    gradient = _loss_gradient(logits, targets, counted, scale)
    expected = _loss_gradient(logits.double(), targets, counted)
    torch.testing.assert_close(gradient.double() / scale, expected, rtol=2e-3, atol=0)


def test_bfloat16_is_close_to_float32():
    batch = collate(prompts(SHAPES), 0)
    exact = EffortScorer(adapted("llama"), "last_v").per_sample_norms(batch)
    rough = EffortScorer(adapted("llama", torch.bfloat16), "last_v").per_sample_norms(batch)
    np.testing.assert_allclose(rough, exact, rtol=0.1)


def test_a_non_finite_loss_shows_in_its_row_only():
    model = adapted("llama")
    model.get_input_embeddings().weight.data[7] = float("nan")
    encoded = prompts(SHAPES)
    clean = [EncodedPrompt([8 if t == 7 else t for t in p.input_ids], p.response_start) for p in encoded]
    broken = [*clean[:2], EncodedPrompt([7, *clean[2].input_ids[1:]], clean[2].response_start), *clean[3:]]
    norms = EffortScorer(model, "last_v").per_sample_norms(collate(broken, 0))
    assert np.isfinite(norms).tolist() == [True, True, False, True, True]


def test_a_row_without_a_response_scores_zero():
    empty = EncodedPrompt([5, 6, 7], 3)
    scorer = EffortScorer(adapted("llama"), "last_v")
    assert scorer.per_sample_norms(collate([empty], 0)).tolist() == [0.0]
    assert scorer.per_sample_norms(collate([empty, *prompts([(4, 2)])], 0))[0] == 0


def test_wrong_scopes_and_missing_adapters_are_refused():
    with pytest.raises(SettingError, match="scope"):
        EffortScorer(make_model(), "middle")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="tokens"):
        EffortScorer(make_model(), "all", "some")  # type: ignore[arg-type]
    with pytest.raises(ScopeError, match="no LoRA on the last value projection"):
        EffortScorer(adapted("llama", targets=("q_proj",)), "last_v")
    with pytest.raises(ScopeError, match="no LoRA adapter"):
        EffortScorer(make_model(), "all")
