"""Trying a run's settings on a small random copy of the model, before any resources are spent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from cluster.errors import UserError
from scoring.effort import EffortScorer, Scope
from scoring.exceptions import NoAttentionError, ScoringError, UnadaptedError
from training.llm.llm_spec import ALL_LINEAR, LoraSpec
from training.llm.loading import NO_REMOTE_CODE
from training.llm.lora import attach_lora
from training.llm.miniature import miniature, miniature_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate
from training.llm.trunk import Trunk
from training.llm.usable_models import OTHER_MODEL, check_kind, check_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("dealrec.llm")

#: Errors of configurations and models whose reduced sizes are inconsistent, or that lack a package.
_CANNOT_TELL = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def try_architecture(name: str, lora: LoraSpec, scope: Scope | None) -> None:
    """Raise `UserError` if a model, in a folder or on a hub, cannot be used as asked. Only its configuration is read.

    The small copy has the same classes, depth and switches with random weights. If the library cannot build it, this
    check passes silently, and any problem shows when the model itself is loaded.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(name, **NO_REMOTE_CODE)
        check_kind(config, name)
        try_model(miniature_model(miniature(config)), name, lora, scope)
    except (*_CANNOT_TELL, StrictDataclassError) as error:
        log.debug("no small copy of %s: %r", name, error)


def try_model(model: PreTrainedModel, name: str, lora: LoraSpec, scope: Scope | None) -> None:
    """Check a model, attach an adapter and, unless `scope` is None, score two samples. Raises `UserError`."""
    check_model(model, name)
    adapted = attach_lora(model, lora)
    if lora.layers is not None:
        Trunk(adapted, lora.layers)
    if scope is None:
        return
    size = int(model.get_output_embeddings().weight.shape[0])
    ids = np.linspace(1, size - 1, 12).astype(int).tolist()
    try:
        EffortScorer(adapted, scope).per_sample_norms(collate([EncodedPrompt(ids, 8), EncodedPrompt(ids[3:], 6)], 0))
    except ScoringError as error:
        raise scope_fault(error, scope, lora) from error


def scope_fault(error: ScoringError, scope: Scope, lora: LoraSpec) -> UserError:
    """Return the error for modules on which effort cannot be measured. A test follows each remedy."""
    if isinstance(error, NoAttentionError):
        return UserError(f"effort.scope {scope} requires attention: {error}.", "Set effort.scope to all.")
    message = f"effort.scope {scope} is incompatible with {_where(lora)}: {error}."
    if isinstance(error, UnadaptedError):
        maps = ", ".join(error.maps)
        if lora.layers is not None:
            return UserError(message, "Raise finetune.layers, or set effort.scope to all.")
        return UserError(message, f"Add {maps} to finetune.targets, omit that key, or set effort.scope to all.")
    if scope == "all" and lora.targets is not None:
        change = "omit finetune.targets" if lora.targets != (ALL_LINEAR,) else "set effort.scope to last_v"
        return UserError(message, f"To score effort, {change}.")
    return UserError(f"llm.model: {error}.", OTHER_MODEL)


def _where(lora: LoraSpec) -> str:
    return "finetune.targets" if lora.layers is None else "finetune.layers and finetune.targets"
