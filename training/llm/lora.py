"""A seeded LoRA adapter on a causal language model (Hu et al., 2022)."""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cluster.errors import UserError
from training.llm.llm_spec import LoraSpec
from training.llm.lora_targets import lora_targets
from training.llm.usable_models import first_line

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# PEFT takes seconds to import, so a process that only passes on its workers' results must not import it.


def attach_lora(model: PreTrainedModel, spec: LoraSpec) -> PeftModel:
    """Wrap the model in place; only the adapter's parameters require gradients.

    As in PEFT, each A is drawn uniformly within 1 / sqrt(inputs), but from a generator seeded by `spec.seed` and the
    tensor's name. So every process gets the same bytes, and the global random state is neither read nor changed.

    Raises `UserError` if no module matches `spec.targets`, or if none are given and none are found.
    """
    from peft import LoraConfig, get_peft_model

    targets = lora_targets(model, spec.targets, spec.layers)
    config = LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        target_modules=targets,
        lora_dropout=spec.dropout,
        bias="none",
        task_type="CAUSAL_LM",
        fan_in_fan_out=_transposed(model),
    )
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            # PEFT reads an attribute that transformers has renamed, and warns about maps that are not transposed.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"finetune.targets: PEFT cannot adapt every module named there: {first_line(error)}",
            remedy="Name linear maps, or omit the key for the query and value projections.",
        ) from error
    seed_lora(adapted, spec.seed)
    return adapted


def seed_lora(model: nn.Module, seed: int) -> None:
    """Set every LoRA A from the seed and its name, and every B to zero."""
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
    """Return 32 hex digits of BLAKE2b over the adapter's names, shapes and float32 values. Tensors must be whole."""
    from peft.utils import get_peft_model_state_dict

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(get_peft_model_state_dict(model).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_adapter(model: PreTrainedModel, folder: str) -> PeftModel:
    """Load an adapter from a folder onto the model, in evaluation mode.

    Raises
    ------
    UserError : its weights are not safetensors; PEFT would read a pickle instead.
    """
    from peft import PeftModel

    if not Path(folder, "adapter_model.safetensors").is_file():
        raise UserError(
            f"{folder} holds no adapter_model.safetensors.", "Fine-tune again by `dealrec run CONFIG --from finetune`."
        )
    return PeftModel.from_pretrained(model, folder).eval()


def _transposed(model: nn.Module) -> bool:
    """Return whether the model stores weights as [inputs, outputs], as GPT-2 does. PEFT detects exceptions itself."""
    return any(type(module).__name__ == "Conv1D" for module in model.modules())
