"""What can be told of the LLM before Ray starts: its files, its tokenizer, the prompt, where an adapter goes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

from cluster.errors import UserError
from pipeline.preflight.checks import Subject

_LOCAL = ("/", ".", "~")
#: What a folder with a model must hold, by its usual names.
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
_SAVE = "Write it with save_pretrained of the model and of its tokenizer; pickled weights are not read."
_INDEX = "model.safetensors.index.json"
#: What configurations of transformers call the number of tokens that a model reads.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def check_template(subject: Subject) -> str:
    """The wording of the prompt is one of ours, or a whole one of the user's."""
    from training.llm.prompts import load_template

    template = load_template(subject.config.llm.template)
    return f"{template.name}, layout {template.layout}"


def check_files(subject: Subject) -> str:
    """The driver reads the model's tokenizer and configuration, so they must be here on a cluster too.

    Of a name on a hub, its cache here or the hub is asked.
    """
    model = subject.config.llm.model
    path = Path(model)
    if model.startswith(_LOCAL) and not path.exists():
        raise UserError(
            f"llm.model: {model} is not there.",
            "Give a folder with a model's files, a GGUF file, or the name of a model on the hub.",
        )
    if path.is_file() and path.suffix != ".gguf":
        raise UserError(
            f"llm.model: {model} is a file, and of single files only GGUF is read.",
            "Give the folder that save_pretrained has written.",
        )
    if path.is_file():
        return model
    if not path.is_dir():
        _require_safetensors(model)
        return f"{model}, of a hub"
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
                f"llm.model: {folder} holds no weights as safetensors, only {pickled[0]}, a pickle, which is not read.",
                "Load the model once where you trust that file, and write it with save_pretrained.",
            )
        if what == "configuration" and (folder / "adapter_config.json").exists():
            raise UserError(
                f"llm.model: {folder} holds an adapter, not a model.",
                "Merge the adapter into its base model with merge_and_unload of peft, and write that with "
                "save_pretrained.",
            )
        raise UserError(f"llm.model: {folder} holds no {what} ({', '.join(patterns)}).", _SAVE)


def _require_readable(folder: Path) -> None:
    """Every file of weights is there and whole: its header says how long it is."""
    from safetensors import SafetensorError, safe_open

    names = {file.name for file in folder.glob("*.safetensors")}
    for name in sorted(names | set(_indexed(folder))):
        if name not in names:
            raise UserError(f"llm.model: {folder} lacks {name}, which {_INDEX} names.", "Copy the whole folder again.")
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"llm.model: {folder / name} cannot be read as safetensors ({str(error).rstrip('.')}).",
                "Copy it again; a file of a few lines is a pointer of Git LFS, whose content `git lfs pull` brings.",
            ) from error


def _indexed(folder: Path) -> Iterator[str]:
    """The files of weights that the folder's index names; nothing without an index."""
    file = folder / _INDEX
    if not file.exists():
        return
    try:
        yield from set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"llm.model: {file} is no index of weights.", "Copy the whole folder again.") from error


def _require_safetensors(model: str) -> None:
    """Of a model on a hub: its weights are in this machine's cache or on the hub, as safetensors."""
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
            f"llm.model: {model} is no folder here, its weights are not in this machine's cache, and the hub cannot be "
            f"asked ({reason}).",
            "Download it where there is a network (`hf download NAME --local-dir FOLDER`) and give the folder, or mend "
            "the connection to the hub; models that ask for it need a token in HF_TOKEN.",
        ) from error
    raise UserError(
        f"llm.model: {model} has no weights as safetensors on the hub, or is not there.",
        "Choose a model that has, or load this one where you trust its pickles and write it with save_pretrained.",
    )


def check_tokenizer(subject: Subject) -> str:
    """The tokenizer loads and has an end of sequence."""
    return f"{len(subject.tokenizer):,} tokens"


def check_length(subject: Subject) -> str:
    """A model with learned positions fails beyond the last of them, and others were never trained there."""
    from pipeline.stages.finetune_stage import llm_spec
    from training.llm.loading import load_config

    config = subject.config
    llm = load_config(llm_spec(config)).get_text_config()
    limit = next((value for key in _POSITIONS if isinstance(value := getattr(llm, key, None), int)), None)
    tokens = config.llm.max_tokens
    if limit is None:
        return f"{type(llm).__name__}, which says of no bound"
    if tokens > limit:
        raise UserError(
            f"llm.max_tokens is {tokens}, and {config.llm.model} reads at most {limit} tokens.",
            f"Set llm.max_tokens to {limit} or less.",
        )
    section = config.evaluate
    longest = tokens - tokens // 4 + section.max_new_tokens
    if "evaluate" in subject.stages and section.decoding == "free" and longest > limit:
        raise UserError(
            f"evaluate.max_new_tokens is {section.max_new_tokens}: with a prompt of {longest - section.max_new_tokens} "
            f"tokens, three quarters of llm.max_tokens, that is more than the {limit} that {config.llm.model} reads.",
            "Lower evaluate.max_new_tokens or llm.max_tokens.",
        )
    return f"reads {limit:,} tokens, llm.max_tokens is {tokens:,}"


def check_prompt(subject: Subject) -> str:
    """The prompt can be made of the tokenizer and the template, with room for a title in it and one as the answer."""
    from training.llm.long_titles import title_room
    from training.llm.prompts import PromptEncoder, load_template

    llm = subject.config.llm
    template = load_template(llm.template)
    encoder = PromptEncoder(subject.tokenizer, template, ["", "A", "B"], llm.max_items, llm.max_tokens)
    room = title_room(encoder, llm.max_title_tokens)
    return f"{encoder.template_tokens} tokens beside the titles; a title may take {room}"


def check_structure(subject: Subject) -> str:
    """An adapter fits where finetune.targets says, padding is left out, effort can be measured.

    A small model is loaded for that, by the functions that its workers call. Of a larger one a small copy of the same
    structure is tried; the rest shows when a worker loads it.
    """
    from pipeline.stages.effort_stage import prepare_scorer
    from pipeline.stages.finetune_stage import llm_spec, lora_spec
    from training.llm.loading import load_llm
    from training.llm.lora import attach_lora
    from training.llm.memory_needs import loads_to_look
    from training.llm.trial import try_architecture

    config, stages = subject.config, set(subject.stages)
    spec, lora = llm_spec(config), lora_spec(config, dropout=0.0)
    if loads_to_look(config.llm.model) and not spec.model.endswith(".gguf"):
        # A library that PEFT loads announces itself on standard output, where tables and JSON go.
        with contextlib.redirect_stdout(io.StringIO()):
            if "effort" in stages:
                prepare_scorer(spec, lora, "cpu", config.effort.scope, config.effort.tokens)
            else:
                model = load_llm(spec)
                if "finetune" in stages:
                    attach_lora(model, lora)
        return "loads here, leaves padding out" + (", takes the adapter" if {"effort", "finetune"} & stages else "")
    if spec.model.endswith(".gguf"):
        return "not loaded here, where it is packed; its workers look at it"
    try_architecture(spec.model, lora, config.effort.scope if "effort" in stages else None)
    return "not loaded here, where it is large; a small copy of its structure can be used"
