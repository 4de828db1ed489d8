from __future__ import annotations

import contextlib
import json

import gguf
import pytest
import torch
from peft import PeftModel

from cluster.errors import UserError
from scoring.projections import find_structure
from tests.tiny_llm import make_model, make_tiny_llm, make_tokenizer
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.llm.loading import expand_gguf, load_config, load_llm, load_tokenizer
from training.llm.lora import adapter_hash, attach_lora, load_adapter
from training.llm.trial import try_architecture


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny")


def test_a_directory_loads_quietly_in_the_asked_type(tiny, capfd):
    model = load_llm(LLMSpec(str(tiny), "bfloat16"))
    assert capfd.readouterr() == ("", "")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not model.training


def test_sampling_defaults_are_dropped_and_end_tokens_kept(tmp_path):
    path = make_tiny_llm(tmp_path / "sampling")
    settings = {"do_sample": True, "temperature": 0.1, "top_p": 0.3, "eos_token_id": [2, 9], "num_beams": 7}
    (path / "generation_config.json").write_text(json.dumps(settings))
    config = load_llm(LLMSpec(str(path), "float32")).generation_config
    assert config.eos_token_id == [2, 9]
    assert not config.do_sample
    assert config.temperature in (None, 1.0)
    assert config.top_p in (None, 1.0)
    assert config.num_beams in (None, 1)


def test_the_tokenizer_pads_left_and_always_has_a_padding_token(tiny, tmp_path):
    assert load_tokenizer(LLMSpec(str(tiny))).padding_side == "left"
    bare = load_tokenizer(LLMSpec(str(tiny)))
    bare.pad_token = None
    bare.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(LLMSpec(str(tmp_path)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "/nowhere/model.gguf", "no-such/model"])
def test_a_model_that_is_not_there_is_the_users_fault(name):
    for load in (load_llm, load_tokenizer):
        with pytest.raises(UserError, match=r"llm\.model") as caught:
            load(LLMSpec(name, "float32"))
        assert "Set llm.model" in caught.value.remedy


def test_broken_weights_and_foreign_models_are_the_users_fault(tiny, tmp_path):
    broken = make_tiny_llm(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nothing")
    pickled = make_tiny_llm(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    encoder = make_tiny_llm(tmp_path / "encoder")
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    for path in (broken, tmp_path / "broken.gguf", pickled, encoder):
        with pytest.raises(UserError, match=r"llm\.model"):
            load_llm(LLMSpec(str(path), "float32"))


def test_code_that_comes_with_a_model_is_never_run(tmp_path, monkeypatch):
    """Not even when somebody at the terminal agrees to everything."""
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    llm = make_tiny_llm(tmp_path / "llm")
    (llm / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((llm / "config.json").read_text())
    remote = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    (llm / "config.json").write_text(json.dumps({**config, "model_type": "theirs", "auto_map": remote}))
    spec = LLMSpec(str(llm), "float32")
    for load in (load_config, load_llm, lambda spec: try_architecture(spec.model, LoraSpec(), "last_v")):
        with contextlib.suppress(UserError):
            load(spec)
    with pytest.raises(UserError, match=r"llm\.model"):
        load_llm(spec)
    tokenizer = json.loads((llm / "tokenizer_config.json").read_text())
    theirs = {**tokenizer, "tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Model", None]}}
    (llm / "tokenizer_config.json").write_text(json.dumps(theirs))
    with contextlib.suppress(UserError):
        load_tokenizer(spec)
    assert not (tmp_path / "ran").exists()


def test_a_pickled_adapter_is_not_read(tiny, tmp_path):
    tuned = attach_lora(load_llm(LLMSpec(str(tiny), "float32")), LoraSpec())
    tuned.save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors"):
        load_adapter(load_llm(LLMSpec(str(tiny), "float32")), str(tmp_path))


def test_an_unknown_type_is_the_users_fault(tiny):
    with pytest.raises(UserError, match=r"llm\.dtype"):
        load_llm(LLMSpec(str(tiny), "int3"))


def write_gguf(path):
    """Write the tiny Llama as llama.cpp stores it: unquantised, with query and key rows in its own order."""
    tokenizer, model = make_tokenizer(), make_model("llama")
    config, state = model.config, model.state_dict()
    words = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(words["vocab"], key=words["vocab"].get)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(pair) for pair in words["merges"]])
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers": "blk",
    }
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in state.items():
        values, stored = tensor.numpy(), name
        for ours, theirs in names.items():
            stored = stored.replace(ours, theirs)
        count = next((heads[part] for part in heads if part in name), None)
        if count is not None:
            values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            values = values[: len(tokens)]
        writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return len(tokens)


def test_a_gguf_file_loads_as_a_plain_model_and_expands_to_a_directory(tmp_path, capfd):
    size = write_gguf(tmp_path / "tiny.gguf")
    spec = LLMSpec(str(tmp_path / "tiny.gguf"), "float32")
    capfd.readouterr()
    model = load_llm(spec)
    plain = expand_gguf(spec, tmp_path / "plain")
    assert capfd.readouterr() == ("", "")
    assert plain == LLMSpec(str(tmp_path / "plain"), "float32")
    assert not hasattr(model, "hf_quantizer")
    assert not hasattr(model.config, "quantization_config")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "tiny.gguf"]
    assert expand_gguf(spec, tmp_path / "plain") == plain
    ids = torch.arange(3, 30)[None]
    expected = make_model("llama")(input_ids=ids).logits[..., :size]
    for loaded in (model, load_llm(plain)):
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    text = 'The user has watched "Heat"'
    assert load_tokenizer(plain)(text).input_ids == load_tokenizer(spec)(text).input_ids
    assert load_tokenizer(plain).eos_token_id == 2


def test_without_the_package_a_gguf_file_is_refused_by_the_name_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("training.llm.loading.find_spec", lambda name: None)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    for load in (load_tokenizer, load_config, load_llm, lambda spec: expand_gguf(spec, tmp_path / "plain")):
        with pytest.raises(UserError, match=r"tiny\.gguf is a GGUF file.* not installed.*pip install gguf"):
            load(LLMSpec(str(tmp_path / "tiny.gguf"), "float32"))
    assert not (tmp_path / "plain").exists()


def test_only_gguf_needs_expanding(tiny, tmp_path):
    spec = LLMSpec(str(tiny))
    assert expand_gguf(spec, tmp_path / "plain") == spec
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_lora_covers_query_and_value_of_every_layer(architecture):
    model = attach_lora(make_model(architecture), LoraSpec(r=4, alpha=8))
    tuned = {name.split(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert len(tuned) == (2 if architecture == "gpt2" else 4)
    assert set(find_structure(model).value) <= tuned
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_the_adapter_is_the_same_whatever_the_global_random_state():
    hashes = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        model = attach_lora(make_model(), LoraSpec(seed=3))
        assert torch.equal(state, torch.random.get_rng_state())
        hashes.add(adapter_hash(model))
    assert len(hashes) == 1
    assert adapter_hash(attach_lora(make_model(), LoraSpec(seed=4))) not in hashes


def test_a_fresh_adapter_changes_nothing_and_its_a_has_the_usual_scale():
    ids = torch.arange(3, 20)[None]
    plain = make_model()
    expected = plain(input_ids=ids).logits
    model = attach_lora(plain, LoraSpec(r=8))
    assert torch.equal(model(input_ids=ids).logits, expected)
    a = torch.cat([p.detach().flatten() for n, p in model.named_parameters() if "lora_A" in n])
    assert float(a.abs().max()) <= 1 / 32**0.5
    assert float(a.std()) == pytest.approx(1 / 32**0.5 / 3**0.5, rel=0.1)
    assert all(not p.any() for n, p in model.named_parameters() if "lora_B" in n)


def test_a_matrix_is_the_same_whichever_others_are_tuned():
    both = attach_lora(make_model(), LoraSpec(seed=1)).state_dict()
    one = attach_lora(make_model(), LoraSpec(seed=1, targets=("v_proj",))).state_dict()
    shared = [name for name in one if "v_proj.lora_A" in name]
    assert shared
    assert all(torch.equal(one[name], both[name]) for name in shared)


def test_unknown_targets_are_the_users_fault():
    with pytest.raises(UserError, match=r"finetune\.targets"):
        attach_lora(make_model(), LoraSpec(targets=("nothing_here",)))


def test_a_saved_adapter_loads_with_peft_and_keeps_its_hash(tmp_path):
    model = attach_lora(make_model("gpt2"), LoraSpec(r=2, seed=6))
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make_model("gpt2"), str(tmp_path))
    assert adapter_hash(again) == adapter_hash(model)
