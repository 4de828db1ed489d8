"""Loading a causal language model and its tokenizer.

The model libraries take seconds to import. They are imported where something is loaded, so that a process that only
passes on what its workers load never imports them.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cluster.errors import UserError
from training.llm.llm_spec import LLMSpec
from training.llm.memory import lack_of_memory_as
from training.llm.usable_models import check_kind, check_model, first_line

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The libraries read these when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

#: Left out, the library asks at a terminal whether it may run code that comes with a model.
NO_REMOTE_CODE: dict[str, object] = {"trust_remote_code": False}

MODEL_REMEDY = (
    "Set llm.model to a directory written by save_pretrained, to a .gguf file, or to the name of a causal "
    "language model on a hub this machine can reach; weights are read from safetensors or GGUF only."
)


def load_tokenizer(spec: LLMSpec) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer with left padding; without a padding token it pads with its EOS token.

    Raises `UserError` if it cannot be loaded or has no EOS token.
    """
    from transformers import AutoTokenizer

    where, options = _source(spec.model)
    with _quiet("gguf_file" in options):
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, **options)
        except Exception as error:  # a broken file may raise anything in its reader
            raise _unloadable("tokenizer", spec, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"llm.model: the tokenizer of {spec.model} has no end-of-sequence token.", remedy=MODEL_REMEDY)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_config(spec: LLMSpec) -> PretrainedConfig:
    """Load the model's configuration without its weights. Raises `UserError` if it cannot be loaded."""
    from transformers import AutoConfig

    where, options = _source(spec.model)
    with _quiet("gguf_file" in options):
        try:
            return AutoConfig.from_pretrained(where, **options)
        except Exception as error:  # a broken file may raise anything in its reader
            raise _unloadable("configuration", spec, error) from error


def load_llm(spec: LLMSpec, device: str | torch.device = "cpu") -> PreTrainedModel:
    """Load the model in evaluation mode, with weights in `spec.dtype` on `device` and greedy generation defaults.

    Raises `UserError` if it is missing, is not a causal language model, or does not mask padding.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    spec.check()
    dtype = getattr(torch, spec.dtype)
    where, options = _source(spec.model)
    gguf = "gguf_file" in options
    # GGUF blocks are expanded in float32 and rounded once.
    options = {"dtype": torch.float32, **options} if gguf else {"dtype": dtype, "use_safetensors": True, **options}
    with _quiet(gguf):
        try:
            if not gguf:
                check_kind(AutoConfig.from_pretrained(where, **NO_REMOTE_CODE), spec.model)
            model = AutoModelForCausalLM.from_pretrained(where, **options)
        except UserError:
            raise
        except Exception as error:  # a broken file may raise anything in its reader
            raise _unloadable("model", spec, error) from error
        # A directory saved from a GGUF model still names the GGUF quantiser.
        if getattr(model, "quantization_method", None) == "gguf":
            model = _plain_copy(model)
    model.generation_config = _greedy(model)
    model.get_output_embeddings().register_forward_pre_hook(_packed)
    fault = f"llm.model: {spec.model} in {spec.dtype} does not fit in the memory of {device}."
    with lack_of_memory_as(fault, "Use a smaller model, or a device with more memory."):
        model = model.to(device=device, dtype=dtype).eval()
    check_model(model, spec.model)
    return model


def _packed(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Give the output head a contiguous input.

    The last columns of longer sequences are strided. For such an input without gradients, the product with the head
    copies the head's whole weight once per row, which took half the time of generation on a CPU.
    """
    return (args[0].contiguous(), *args[1:])


def expand_gguf(spec: LLMSpec, directory: Path) -> LLMSpec:
    """Write a GGUF model with its tokenizer as a plain directory, once, and return the spec that names it.

    Reading GGUF takes many times longer than reading the directory. The spec of any other model is returned unchanged.
    The directory appears complete or not at all. Raises `UserError` like `load_llm`.
    """
    if not spec.model.endswith(".gguf"):
        return spec
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=directory.parent))
        scratch.chmod(0o755)
        try:
            with _quiet(gguf=True):
                load_tokenizer(spec).save_pretrained(scratch)
                load_llm(spec).save_pretrained(scratch)
            scratch.rename(directory)
        except OSError:
            # Another process may have been faster.
            if not directory.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return LLMSpec(str(directory), spec.dtype)


def _source(model: str) -> tuple[str, dict[str, object]]:
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"llm.model: there is no file {model}.", remedy=MODEL_REMEDY)
        if find_spec("gguf") is None:
            raise UserError(
                f"llm.model: {model} is a GGUF file, which the package gguf reads, and it is not installed.",
                "Install it in this environment, on every node: pip install gguf. Or give a folder written by "
                "save_pretrained.",
            )
        return str(path.parent), {"gguf_file": path.name, **NO_REMOTE_CODE}
    looks_local = path.is_absolute() or model.startswith((".", "~"))
    if looks_local and not path.is_dir():
        raise UserError(f"llm.model: there is no directory {model}.", remedy=MODEL_REMEDY)
    return model, dict(NO_REMOTE_CODE)


def _unloadable(what: str, spec: LLMSpec, error: Exception) -> UserError:
    message = f"llm.model: the {what} of {spec.model} cannot be loaded: {first_line(error)}"
    return UserError(message, remedy=MODEL_REMEDY)


def _plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy class and tensors without the quantiser's attributes, which prevent casts and later saves."""
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain


def _greedy(model: PreTrainedModel) -> GenerationConfig:
    """Return the model's generation defaults reduced to their special tokens, without sampling."""
    from transformers import GenerationConfig

    given = model.generation_config
    sources = [source for source in (given, model.config) if source is not None]
    tokens: dict[str, object] = {}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        tokens[key] = next((v for s in sources if (v := getattr(s, key, None)) is not None), None)
    return GenerationConfig(**tokens)


@contextmanager
def _quiet(gguf: bool) -> Iterator[None]:
    """Silence the progress bars and warnings of the model libraries while loading."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # After five retries with a line each, the resulting error already says what a hub does not have.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not gguf:
        yield
        return
    from transformers import modeling_gguf_pytorch_utils as gguf_reader

    bar = gguf_reader.tqdm  # the only progress bar that no setting disables
    gguf_reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        gguf_reader.tqdm = bar
