"""A seeded LoRA adapter on a causal language model (Hu et al., 2022)."""

from __future__ import annotations

import hashlib
import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from cluster.errors import UserError
from scoring.errors import ScoringError
from scoring.projections import find_projections
from training.llm_spec import LoraSpec

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# PEFT takes seconds to load: a process that only hands on what its workers do with it never loads it.


def attach_lora(model: PreTrainedModel, spec: LoraSpec) -> PeftModel:
    """Wraps the model in place; only the adapter's parameters require gradients.

    Each A is drawn uniformly within 1 / sqrt(inputs), as PEFT does, but from a generator seeded by
    `spec.seed` and the tensor's name: every process gets the same bytes, and the global random state is
    neither read nor moved.

    Raises UserError if no module carries one of `spec.targets`, or none are named and none are found.
    """
    from peft import LoraConfig, get_peft_model

    try:
        targets = spec.targets if spec.targets is not None else find_projections(model).siblings()
    except ScoringError as error:
        raise UserError(
            f"llm.model: where its projections are is not to be seen from its structure: {error}.",
            "Name the modules of the query and value projections in finetune.targets.",
        ) from error
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
    from peft.utils import get_peft_model_state_dict

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(get_peft_model_state_dict(model).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_adapter(model: PreTrainedModel, folder: str) -> PeftModel:
    """The model with an adapter that was saved in a folder, in evaluation mode."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder).eval()


def find_value_projection(model: nn.Module) -> str:
    """Module name of the last decoder layer's value projection, or of the fused one that holds it."""
    return find_projections(model).value


def _transposed(model: nn.Module, targets: tuple[str, ...]) -> bool:
    """Whether the targets store their weight as [inputs, outputs], as GPT-2's do."""
    matched = (m for n, m in model.named_modules() if any(f".{n}".endswith(f".{t}") for t in targets))
    return any(type(module).__name__ == "Conv1D" for module in matched)
