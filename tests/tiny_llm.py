"""A tiny random causal language model with its own tokenizer, written to a directory within a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CORPUS = (
    "### Instruction: Given the movies the user has watched, in order, recommend the next movie.",
    'The user has watched the following movies: "Toy Story (1995)", "Heat (1995)", "Fargo (1996)"',
    "### Input: ### Response: Title 0123456789 Item film of the man and a night in love",
)
VOCABULARY = 384
_GROUPED = {"intermediate_size": 48, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 2}
#: Families of transformers models that name, order and fuse their projections differently, with their own sizes.
OTHER_FAMILIES = {
    "Qwen3": {**_GROUPED, "head_dim": 8},
    "Phi3": _GROUPED,
    "Mixtral": {**_GROUPED, "num_local_experts": 2},
    "GPTNeoX": {"intermediate_size": 48},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Bloom": {},
}


def make_tokenizer(corpus: Iterable[str] = CORPUS, bos: bool = False) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of fewer than VOCABULARY tokens; with `bos`, every text starts with <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 8,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(corpus), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_model(architecture: str = "llama", seed: int = 0, layers: int = 2) -> PreTrainedModel:
    """Return a random float32 model in evaluation mode: "llama", "qwen2" (biases) or "gpt2" (fused projection)."""
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        **tokens,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if architecture == "llama":
            return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **common)).eval()
        if architecture == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **common)).eval()
        if architecture == "gpt2":
            config = GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=32,
                n_layer=layers,
                n_head=4,
                n_positions=512,
                initializer_range=0.2,
                **tokens,
            )
            return GPT2LMHeadModel(config).eval()
    raise ValueError(f"no tiny model of architecture {architecture!r}")


def make_other(family: str, seed: int = 0, layers: int = 2) -> PreTrainedModel:
    """Return a random float32 model from one of the families in OTHER_FAMILIES."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": layers}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = getattr(transformers, f"{family}Config")(**sizes, **OTHER_FAMILIES[family])
        model: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config)
        return model.eval()


def make_tiny_llm(path: Path | str, architecture: str = "llama", bos: bool = False) -> Path:
    """Save a tiny model and its tokenizer to the directory `path`, laid out like a hub model."""
    target = Path(path)
    make_model(architecture).save_pretrained(target)
    make_tokenizer(bos=bos).save_pretrained(target)
    return target
