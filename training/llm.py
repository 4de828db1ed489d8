"""Loading a causal language model and putting a seeded LoRA adapter on it."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Read by the libraries when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging as transformers_logging

from cluster.errors import UserError
from scoring.projections import find_projections

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
MODEL_REMEDY = (
    "Set llm.model to a directory written by save_pretrained, to a .gguf file, or to the name of a causal "
    "language model on a hub this machine can reach; weights are read from safetensors or GGUF only."
)
logger = logging.getLogger("dealrec.llm")


@dataclass(frozen=True)
class LLMSpec:
    """Which model, and the type its weights are held in (a key of DTYPES)."""

    model: str
    dtype: str = "bfloat16"

    @property
    def torch_dtype(self) -> torch.dtype:
        """Raises UserError for a name that is not in DTYPES."""
        if self.dtype not in DTYPES:
            raise UserError(
                f"llm.dtype: {self.dtype!r} is not a type of weights.",
                remedy=f"Use one of {', '.join(DTYPES)}.",
            )
        return DTYPES[self.dtype]


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA adapter (Hu et al., 2022): rank, scale alpha / r, and the linear maps it is put on.

    `targets` are module names or their endings; None stands for the query and value projections of every
    decoder layer, or the fused projection. `seed` fixes A; B starts at zero.
    """

    r: int = 8
    alpha: float = 16
    targets: tuple[str, ...] | None = None
    dropout: float = 0.0
    seed: int = 0


def load_tokenizer(spec: LLMSpec) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the left; a tokenizer without a padding token pads with its EOS.

    Raises UserError if it cannot be loaded or has no EOS token.
    """
    where, options = _source(spec.model)
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, **options)
        except Exception as error:  # whatever a broken file makes its reader raise
            raise _unloadable("tokenizer", spec, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"llm.model: the tokenizer of {spec.model} has no end-of-sequence token.", remedy=MODEL_REMEDY)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_llm(spec: LLMSpec, device: str | torch.device = "cpu") -> PreTrainedModel:
    """The model in evaluation mode, weights in `spec.dtype` on `device`, with greedy generation defaults.

    Raises UserError if it is not there or is no causal language model.
    """
    dtype = spec.torch_dtype
    where, options = _source(spec.model)
    gguf = "gguf_file" in options
    # GGUF blocks are expanded in float32 and rounded once.
    options = {"dtype": torch.float32, **options} if gguf else {"dtype": dtype, "use_safetensors": True}
    with _quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(where, **options)
        except Exception as error:  # whatever a broken file makes its reader raise
            raise _unloadable("model", spec, error) from error
        # A directory saved from a GGUF model still names the GGUF quantiser.
        if getattr(model, "quantization_method", None) == "gguf":
            model = _plain_copy(model)
    model.generation_config = _greedy(model)
    model.get_output_embeddings().register_forward_pre_hook(_packed)
    return model.to(device=device, dtype=dtype).eval()


def _packed(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Hands the output head a contiguous input.

    The last columns of longer sequences are strided, and for such an input without a gradient the product with the
    head copies the head's whole weight once a row: half the time of generation on a CPU.
    """
    return (args[0].contiguous(), *args[1:])


def expand_gguf(spec: LLMSpec, directory: Path) -> LLMSpec:
    """Writes a GGUF model with its tokenizer as a plain directory, once, and returns the spec that names it.

    Reading GGUF takes many times longer than reading the directory. Any other model's spec comes back as it
    is. The directory appears complete or not at all. Raises UserError as load_llm does.
    """
    if not spec.model.endswith(".gguf"):
        return spec
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=directory.parent))
        scratch.chmod(0o755)
        try:
            with _quiet():
                load_tokenizer(spec).save_pretrained(scratch)
                load_llm(spec).save_pretrained(scratch)
            scratch.rename(directory)
        except OSError:
            # Another process may have been first.
            if not directory.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return LLMSpec(str(directory), spec.dtype)


def attach_lora(model: PreTrainedModel, spec: LoraSpec) -> PeftModel:
    """Wraps the model in place; only the adapter's parameters require gradients.

    Each A is drawn uniformly within 1 / sqrt(inputs), as PEFT does, but from a generator seeded by
    `spec.seed` and the tensor's name: every process gets the same bytes, and the global random state is
    neither read nor moved.

    Raises UserError if no module carries one of `spec.targets`.
    """
    targets = spec.targets if spec.targets is not None else find_projections(model).siblings()
    config = LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        target_modules=list(targets),
        lora_dropout=spec.dropout,
        bias="none",
        task_type="CAUSAL_LM",
        fan_in_fan_out=_transposed(model, targets),
    )
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed.
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"finetune.targets: no linear map of the model matches {', '.join(targets)}.",
            remedy="Name modules of the model, or leave the key out for the query and value projections.",
        ) from error
    seed_lora(adapted, spec.seed)
    return adapted


def seed_lora(model: nn.Module, seed: int) -> None:
    """Sets every LoRA A from the seed and its name, every B to zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:
                digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
                bound = 1 / math.sqrt(parameter.shape[1])
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
            elif ".lora_B." in name:
                parameter.zero_()


def adapter_hash(model: PeftModel) -> str:
    """32 hex digits of BLAKE2b over the adapter's names, shapes and float32 values. Tensors must be whole."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(get_peft_model_state_dict(model).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def find_value_projection(model: nn.Module) -> str:
    """Module name of the last decoder layer's value projection, or of the fused one that holds it."""
    return find_projections(model).value


def _source(model: str) -> tuple[str, dict[str, Any]]:
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"llm.model: there is no file {model}.", remedy=MODEL_REMEDY)
        return str(path.parent), {"gguf_file": path.name}
    looks_local = path.is_absolute() or model.startswith((".", "~"))
    if looks_local and not path.is_dir():
        raise UserError(f"llm.model: there is no directory {model}.", remedy=MODEL_REMEDY)
    return model, {}


def _unloadable(what: str, spec: LLMSpec, error: Exception) -> UserError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    message = f"llm.model: the {what} of {spec.model} cannot be loaded: {reason[0]}"
    return UserError(message, remedy=MODEL_REMEDY)


def _plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The same class and tensors without the quantiser's traces, which refuse casts and later saves."""
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain


def _greedy(model: PreTrainedModel) -> GenerationConfig:
    """Keeps the special tokens of the model's generation defaults and none of its sampling."""
    given = model.generation_config
    sources = [source for source in (given, model.config) if source is not None]
    tokens: dict[str, Any] = {}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        tokens[key] = next((v for s in sources if (v := getattr(s, key, None)) is not None), None)
    return GenerationConfig(**tokens)


def _transposed(model: nn.Module, targets: tuple[str, ...]) -> bool:
    """Whether the targets store their weight as [inputs, outputs], as GPT-2's do."""
    matched = (m for n, m in model.named_modules() if any(f".{n}".endswith(f".{t}") for t in targets))
    return any(type(module).__name__ == "Conv1D" for module in matched)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of the model libraries while loading."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    bar = gguf_reader.tqdm  # the one progress bar that no setting reaches
    gguf_reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        gguf_reader.tqdm = bar
