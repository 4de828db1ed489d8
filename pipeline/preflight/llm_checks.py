"""Check the LLM before Ray starts: its files, its tokenizer, the prompt, and where an adapter goes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

from cluster.errors import UserError
from pipeline.preflight.checks import Subject

_LOCAL = ("/", ".", "~")
#: The files that a model's folder must hold, by their usual names.
_MODEL_FILES = {
    "configuration": ("config.json",),
    "tokenizer": (
        "tokenizer.json",
        "tokenizer.model",
        "spiece.model",
        "vocab.json",
        "vocab.txt",
        "tokenizer_config.json",
    ),
    "weights": ("*.safetensors",),
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SAVE = "Write it with save_pretrained of the model and of its tokenizer. Pickled weights are refused."
_INDEX = "model.safetensors.index.json"
#: The names in transformers configurations for the number of tokens that a model reads.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def check_template(subject: Subject) -> str:
    """Check that the prompt template is a built-in one, or a complete one of the user's."""
    from training.llm.prompts import load_template

    template = load_template(subject.config.llm.template)
    return f"{template.name}, layout {template.layout}"


def check_files(subject: Subject) -> str:
    """Check the model's files on the driver, which reads the tokenizer and configuration even on a cluster.

    For a name on a hub, ask the local cache or the hub.
    """
    model = subject.config.llm.model
    path = Path(model)
    if model.startswith(_LOCAL) and not path.exists():
        raise UserError(
            f"llm.model: {model} does not exist.",
            "Give a folder with a model's files, a GGUF file, or the name of a model on the hub.",
        )
    if path.is_file() and path.suffix != ".gguf":
        raise UserError(
            f"llm.model: {model} is a file, but GGUF is the only single-file format that is read.",
            "Give the folder that save_pretrained wrote.",
        )
    if path.is_file():
        return model
    if not path.is_dir():
        _require_safetensors(model)
        return f"{model}, on a hub"
    _require_parts(path)
    _require_readable(path)
    return f"{model}, complete"


def _require_parts(folder: Path) -> None:
    for what, patterns in _MODEL_FILES.items():
        if any(next(folder.glob(pattern), None) for pattern in patterns):
            continue
        pickled = (
            sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern)) if what == "weights" else []
        )
        if pickled:
            raise UserError(
                f"llm.model: {folder} holds no safetensors weights, only {pickled[0]}, a pickle. Pickles are refused.",
                "If you trust that file, load the model once and write it with save_pretrained.",
            )
        if what == "configuration" and (folder / "adapter_config.json").exists():
            raise UserError(
                f"llm.model: {folder} holds an adapter, not a model.",
                "Merge the adapter into its base model with peft's merge_and_unload, and write the result with "
                "save_pretrained.",
            )
        raise UserError(f"llm.model: {folder} holds no {what} ({', '.join(patterns)}).", _SAVE)


def _require_readable(folder: Path) -> None:
    """Raise `UserError` if a file of weights is missing or shorter than its header says."""
    from safetensors import SafetensorError, safe_open

    names = {file.name for file in folder.glob("*.safetensors")}
    for name in sorted(names | set(_indexed(folder))):
        if name not in names:
            raise UserError(f"llm.model: {folder} lacks {name}, which {_INDEX} lists.", "Copy the whole folder again.")
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"llm.model: {folder / name} cannot be read as safetensors ({str(error).rstrip('.')}).",
                "Copy it again. If it is a few lines of text, it is a Git LFS pointer: `git lfs pull` fetches it.",
            ) from error


def _indexed(folder: Path) -> Iterator[str]:
    """Yield the files of weights that the folder's index names; none without an index."""
    file = folder / _INDEX
    if not file.exists():
        return
    try:
        yield from set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"llm.model: {file} is not an index of weights.", "Copy the whole folder again.") from error


def _require_safetensors(model: str) -> None:
    """Raise `UserError` if neither this machine's cache nor the hub has the model's weights as safetensors."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    names = ("model.safetensors", _INDEX)
    try:
        if any(isinstance(try_to_load_from_cache(model, name), str) for name in names):
            return
        if any(HfApi().file_exists(model, name) for name in names):
            return
    except HFValidationError as error:
        raise UserError(
            f"llm.model: {model} is neither a folder here nor the name of a model on a hub.",
            "Give a folder with a model's files, a GGUF file, or a name such as owner/model.",
        ) from error
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise UserError(
            f"llm.model: {model} is not a folder, its weights are not in this machine's cache, and the hub cannot be "
            f"reached ({reason}).",
            "Download it on a machine with network (`hf download NAME --local-dir FOLDER`) and give the folder, or "
            "check the connection to the hub. Gated models need a token in HF_TOKEN.",
        ) from error
    raise UserError(
        f"llm.model: {model} has no safetensors weights on the hub, or does not exist.",
        "Choose another model, or, if you trust its pickles, load this one and write it with save_pretrained.",
    )


def check_tokenizer(subject: Subject) -> str:
    """Check that the tokenizer loads and has an end of sequence."""
    return f"{len(subject.tokenizer):,} tokens"


def check_length(subject: Subject) -> str:
    """Check the token limits: learned positions fail beyond the last, and other models were not trained there."""
    from pipeline.stages.finetune_stage import llm_spec
    from training.llm.loading import load_config

    config = subject.config
    llm = load_config(llm_spec(config)).get_text_config()
    limit = next((value for key in _POSITIONS if isinstance(value := getattr(llm, key, None), int)), None)
    tokens = config.llm.max_tokens
    if limit is None:
        return f"{type(llm).__name__}, which states no limit"
    if tokens > limit:
        raise UserError(
            f"llm.max_tokens is {tokens}, but {config.llm.model} reads at most {limit} tokens.",
            f"Set llm.max_tokens to {limit} or less.",
        )
    section = config.evaluate
    longest = tokens - tokens // 4 + section.max_new_tokens
    if "evaluate" in subject.stages and section.decoding == "free" and longest > limit:
        raise UserError(
            f"evaluate.max_new_tokens is {section.max_new_tokens}. With a prompt of {longest - section.max_new_tokens} "
            f"tokens (three quarters of llm.max_tokens) it exceeds the {limit} tokens that {config.llm.model} reads.",
            "Lower evaluate.max_new_tokens or llm.max_tokens.",
        )
    return f"reads {limit:,} tokens, llm.max_tokens is {tokens:,}"


def check_prompt(subject: Subject) -> str:
    """Check that tokenizer and template make a prompt with room for a title in it and one as the answer."""
    from training.llm.long_titles import title_room
    from training.llm.prompts import PromptEncoder, load_template

    llm = subject.config.llm
    template = load_template(llm.template)
    encoder = PromptEncoder(subject.tokenizer, template, ["", "A", "B"], llm.max_items, llm.max_tokens)
    room = title_room(encoder, llm.max_title_tokens)
    return f"{encoder.template_tokens} tokens besides the titles; a title may have {room}"


def check_structure(subject: Subject) -> str:
    """Check that an adapter fits finetune.targets, padding is ignored, and effort can be measured.

    A small model is loaded for this with the functions that its workers call. For a larger one, a small copy with the
    same structure is tried; the rest shows when a worker loads it.
    """
    from pipeline.stages.effort_stage import prepare_scorer
    from pipeline.stages.finetune_stage import llm_spec, lora_spec
    from training.llm.loading import load_llm
    from training.llm.lora import attach_lora
    from training.llm.memory_needs import loads_to_look
    from training.llm.trial import try_architecture
    from training.llm.trunk import Trunk

    config, stages = subject.config, set(subject.stages)
    spec, lora = llm_spec(config), lora_spec(config, dropout=0.0)
    if loads_to_look(config.llm.model) and not spec.model.endswith(".gguf"):
        # A library that PEFT loads prints its name to standard output, which is for tables and JSON.
        with contextlib.redirect_stdout(io.StringIO()):
            if "effort" in stages:
                adapted = prepare_scorer(spec, lora, "cpu", config.effort.scope, config.effort.tokens).model
            else:
                model = load_llm(spec)
                adapted = attach_lora(model, lora) if "finetune" in stages else model
            if "finetune" in stages and lora.layers is not None:
                Trunk(adapted, lora.layers)
        return "loads here, ignores padding" + (", takes the adapter" if {"effort", "finetune"} & stages else "")
    if spec.model.endswith(".gguf"):
        return "not loaded here, because it is packed; its workers check it"
    try_architecture(spec.model, lora, config.effort.scope if "effort" in stages else None)
    return "not loaded here, because it is large; a small copy of its structure works"
