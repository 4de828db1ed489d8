"""The structure of language models, over the classes that transformers has."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from cluster.errors import UserError
from scoring.effort import EffortScorer, Scope
from scoring.projections import find_structure
from tests.architecture_table import FILE, committed, page, row
from tests.architectures import architectures, small_config, small_model
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.llm.loading import load_llm
from training.llm.lora import attach_lora
from training.llm.miniature import miniature
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate
from training.llm.trial import try_architecture, try_model
from training.llm.usable_models import check_model

#: Hybrids, shared and latent keys, gates beside the values, fused maps, mixtures of experts, images, encoders.
FEW = (
    "bamba",
    "bert",
    "bloom",
    "deepseek_v3",
    "falcon_h1",
    "gemma3",
    "gemma3n_text",
    "gpt_oss",
    "inkling2_text",
    "jamba",
    "jetmoe",
    "lfm2",
    "mamba",
    "mllama",
    "nemotron_h",
    "phi3",
    "qwen3_next",
    "recurrent_gemma",
    "zamba",
    "zaya",
)
PINNED = f"transformers {version('transformers')} " in FILE.read_text(encoding="utf-8")
#: Not 0, whose embedding is zero in an untrained model, and the norm of zeros has no gradient.
PAD = 5
SHAPES = ((9, 3), (4, 2), (13, 5))


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny matrices are slower with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(not PINNED, reason="the page is of another version of transformers")
@pytest.mark.parametrize("architecture", [name for name in FEW if name in architectures()])
def test_the_page_of_architectures_says_what_is_found(architecture):
    cells = row(architecture)
    assert dict(committed())[architecture][: len(cells)] == cells


@pytest.mark.slow
def test_the_whole_page_is_that_of_this_version():
    written = page([row(architecture) for architecture in architectures()])
    sys.stdout.write(written)
    if not PINNED:
        pytest.skip("the page is of another version of transformers")
    assert written == FILE.read_text(encoding="utf-8")


def randomised(architecture, targets, dtype=torch.float64):
    """Return the model with LoRA whose B is not zero, so that A has a gradient too."""
    model = attach_lora(small_model(architecture), LoraSpec(r=2, alpha=4, targets=targets)).to(dtype)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).to(dtype)
    return model


def prompts():
    generator = np.random.default_rng(0)
    return [EncodedPrompt(generator.integers(3, 380, sum(shape)).tolist(), shape[0]) for shape in SHAPES]


def one_by_one(model, chosen):
    """Return gradient norms by plain autograd, one sample at a time without padding."""
    for parameter in chosen:
        parameter.requires_grad_(True)
    norms = []
    for prompt in prompts():
        ids = torch.tensor([prompt.input_ids])
        logits = model(input_ids=ids, use_cache=False).logits[0, prompt.response_start - 1 : -1]
        loss = functional.cross_entropy(logits, ids[0, prompt.response_start :])
        gradients = torch.autograd.grad(loss, chosen, allow_unused=True)
        norms.append(float(torch.cat([g.flatten() for g in gradients if g is not None]).norm()))
    return norms


MEASURED = (
    "bamba",
    "deepseek_v3",
    "falcon",
    "gemma3",
    "gemma3n_text",
    "gpt_oss",
    "jamba",
    "lfm2",
    "minimax",
    "qwen3_next",
    "zaya",
)


@pytest.mark.parametrize("architecture", MEASURED)
@pytest.mark.parametrize("scope", ["last_v", "all"])
def test_effort_is_that_of_one_sample_at_a_time(architecture, scope):
    mixture = architecture in ("gpt_oss", "jamba", "minimax", "qwen3_next", "zaya")
    # The experts' grouped product does not support float64.
    model = randomised(architecture, None, torch.float32 if mixture else torch.float64)
    values = find_structure(model).value
    chosen = [
        parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name and (scope == "all" or name.split(".lora_B")[0] in values)
    ]
    expected = one_by_one(model, chosen)
    norms = EffortScorer(model, scope).per_sample_norms(collate(prompts(), PAD))
    assert min(expected) > 0
    # Parts of these models stay float32 whatever the dtype of the weights.
    np.testing.assert_allclose(norms, expected, rtol=1e-3 if mixture else 2e-4)


@pytest.mark.parametrize("architecture", ["hrm_text", "zamba2"])
def test_a_map_that_is_used_again_has_one_gradient(architecture):
    model = randomised(architecture, None)
    chosen = [parameter for name, parameter in model.named_parameters() if ".lora_" in name]
    expected = one_by_one(model, chosen)
    norms = EffortScorer(model, "all").per_sample_norms(collate(prompts(), PAD))
    np.testing.assert_allclose(norms, expected, rtol=2e-4)


@pytest.mark.parametrize("architecture", ["mamba", "llama", "jamba", "phimoe", "gemma3"])
def test_all_linear_covers_the_text_but_the_head_trains_and_loads_with_peft(architecture, tmp_path):
    model = attach_lora(small_model(architecture), LoraSpec(r=2, targets=("all-linear",), seed=3))
    tuned = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert len(tuned) > 2
    assert not any("lm_head" in name or "vision" in name for name in tuned)
    ids = torch.arange(3, 20)[None]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(4):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        # An adapter around a map whose weight the model reads by itself would learn nothing.
        dead = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not dead or architecture == "phimoe", dead
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    model.eval().save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(small_model(architecture), str(tmp_path)).eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


def followed(architecture, targets=None, scope="last_v"):
    """Follow every message's remedy. Return the settings that work in the end, or the last remedy."""
    for _ in range(4):
        try:
            try_model(small_model(architecture), architecture, LoraSpec(r=2, targets=targets), scope)
            return targets, scope
        except UserError as error:
            advice = error.remedy
        before = targets, scope
        if "finetune.targets to all-linear" in advice:
            targets = ("all-linear",)
        elif re.search("omit (the key|that key|finetune.targets)", advice):
            targets = None
        if "effort.scope to all" in advice and "or set effort.scope to all" not in advice:
            scope = "all"
        elif "effort.scope to last_v" in advice:
            scope = "last_v"
        if (targets, scope) == before:
            return advice
    raise AssertionError(f"the messages about {architecture} lead in a circle")


@pytest.mark.parametrize("architecture", ["jamba", "mamba", "rwkv", "bert", "deepseek_v4", "reformer"])
def test_every_remedy_can_be_followed(architecture):
    _leads_somewhere(architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", architectures())
def test_every_remedy_can_be_followed_everywhere(architecture):
    try:
        small_model(architecture)
    except Exception as error:  # noqa: BLE001 - whatever the library raises at its own default configuration
        pytest.skip(f"not built: {error}")
    _leads_somewhere(architecture)


def _leads_somewhere(architecture):
    for targets, scope in ((None, "last_v"), (("all-linear",), "last_v"), (("all-linear",), "all")):
        end = followed(architecture, targets, scope)
        assert isinstance(end, tuple) or end.startswith(("Use a decoder-only", "Use a model"))


def test_the_value_map_that_lacks_an_adapter_is_named_and_naming_it_helps():
    with pytest.raises(UserError, match="no LoRA on the last value projection") as caught:
        try_model(small_model("lfm2"), "lfm2", LoraSpec(r=2, targets=("in_proj",)), "last_v")
    name = "model.layers.1.self_attn.v_proj"
    assert caught.value.remedy.startswith(f"Add {name} to finetune.targets")
    ways: tuple[tuple[tuple[str, ...] | None, Scope], ...] = (
        ((name,), "last_v"),
        (("in_proj",), "all"),
        (None, "last_v"),
    )
    for targets, scope in ways:
        try_model(small_model("lfm2"), "lfm2", LoraSpec(r=2, targets=targets), scope)


@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj"), ("all-linear",)])
@pytest.mark.parametrize("towers", [2, 4])
def test_of_a_vision_language_model_the_text_decoder_counts(targets, towers):
    model = small_model("gemma3", {"vision_config": {"num_hidden_layers": towers}})
    adapted = attach_lora(model, LoraSpec(r=2, targets=targets))
    tuned = {name.split(".lora_")[0] for name, _ in adapted.named_parameters() if ".lora_" in name}
    assert {name.split(".")[3] for name in tuned} == {"language_model"}
    if targets != ("all-linear",):
        assert len(tuned) == 4
    batch = collate(prompts(), PAD)
    assert (EffortScorer(adapted, "last_v").per_sample_norms(batch) > 0).all()


def test_layers_without_lora_are_told(caplog):
    with caplog.at_level("INFO", logger="dealrec.lora"):
        attach_lora(small_model("lfm2"), LoraSpec(r=2))
        attach_lora(small_model("llama"), LoraSpec(r=2))
    (record,) = caplog.records
    assert record.getMessage() == (
        "LoRA is on queries and values of the attention layers (1); 2 of 3 layers have no attention (2 Lfm2ShortConv)"
    )


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "xlm-roberta", "xlnet", "big_bird"])
def test_a_model_that_reads_ahead_is_refused_and_the_same_one_as_a_decoder_is_not(architecture):
    with pytest.raises(UserError, match=r"llm\.model: some .* is not a causal language model"):
        check_model(small_model(architecture), "some")
    if architecture in ("bert", "electra"):
        check_model(small_model(architecture, {"is_decoder": True}), "some")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("t5", "is an encoder-decoder model"),
        ("bart", "is an encoder-decoder model"),
        ("whisper", "is an encoder-decoder model"),
        ("llava", "Its text part is a llama"),
        ("qwen2_vl", "not among the causal language models"),
        ("qwen2_5_vl", "not among the causal language models"),
        ("idefics3", "Its text part is a llama"),
        ("smolvlm", "Its text part is a llama"),
        ("paligemma", "Its text part is a gemma"),
        ("qwen2_audio", "Its text part is a qwen2"),
        ("vit", "not among the causal language models"),
    ],
)
def test_other_kinds_are_refused_by_their_configuration(kind, message, tmp_path):
    CONFIG_MAPPING[kind]().save_pretrained(tmp_path)
    for refuse in (
        lambda: load_llm(LLMSpec(str(tmp_path), "float32")),
        lambda: try_architecture(str(tmp_path), LoraSpec(), "last_v"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            refuse()
        assert caught.value.remedy.startswith("Use a decoder-only")


def test_a_decoder_that_may_look_at_images_is_tuned_where_text_passes():
    model = attach_lora(small_model("mllama", {"text_config": {"cross_attention_layers": [1]}}), LoraSpec(r=2))
    tuned = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert {name.removeprefix("base_model.model.model.") for name in tuned} == {
        "layers.0.self_attn.q_proj",
        "layers.0.self_attn.v_proj",
    }


@pytest.mark.parametrize("architecture", ["gemma3", "fuyu", "got_ocr2"])
def test_what_reads_images_too_is_loaded_for_its_text(architecture, tmp_path):
    small_model(architecture).save_pretrained(tmp_path)
    model = load_llm(LLMSpec(str(tmp_path), "float32"))
    try_model(model, architecture, LoraSpec(r=2), "last_v")


def test_a_configuration_is_tried_at_its_full_depth_and_small_width(tmp_path):
    config = CONFIG_MAPPING["llama"]()
    small = miniature(config)
    assert small.num_hidden_layers == config.num_hidden_layers
    assert small.hidden_size < config.hidden_size
    config.save_pretrained(tmp_path)
    try_architecture(str(tmp_path), LoraSpec(targets=("layers.31.self_attn.v_proj",)), "last_v")
    with pytest.raises(UserError, match=r"model\.layers\.31\.self_attn\.v_proj"):
        try_architecture(str(tmp_path), LoraSpec(targets=("layers.30.self_attn.v_proj",)), "last_v")
    AutoModelForCausalLM.from_config(small_config("bert")).config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is not a causal language model"):
        try_architecture(str(tmp_path), LoraSpec(), None)


def test_all_linear_stands_alone_and_unknown_names_list_what_there_is():
    with pytest.raises(UserError, match="all-linear cannot be combined with other modules"):
        attach_lora(small_model("llama"), LoraSpec(targets=("all-linear", "v_proj")))
    with pytest.raises(UserError, match="no module of the model matches nothing_here") as caught:
        attach_lora(small_model("llama"), LoraSpec(targets=("nothing_here",)))
    assert "v_proj" in caught.value.remedy
    with pytest.raises(UserError, match="PEFT cannot adapt"):
        attach_lora(small_model("llama"), LoraSpec(targets=("self_attn",)))
