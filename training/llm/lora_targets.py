"""The linear maps of a language model that get LoRA: by default, query and value projections on the text's path."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from torch import nn

from cluster.errors import UserError
from scoring.exceptions import NoAttentionError, ScoringError
from scoring.projections import Structure, find_structure
from scoring.recorded_pass import RecordedPass, record_pass
from training.llm.decoder_layers import last_layers
from training.llm.llm_spec import ALL_LINEAR

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

log = logging.getLogger("dealrec.lora")

_TOKENS = 8
_SHOWN = 12


def lora_targets(model: PreTrainedModel, wanted: Sequence[str] | None, layers: int | None = None) -> list[str] | str:
    """Return PEFT's `target_modules`: names, their endings, or a regular expression if neither is exact.

    Parameters
    ----------
    wanted : names of modules or their endings; ("all-linear",) for every linear map except the output head; None for
        the query and value projections (or the fused projection) of all attention layers.
    layers : only maps in the last decoder layers, so many; None for all layers.

    Modules that text does not pass through, such as a vision tower, are left out. Raises `UserError` if nothing is
    left.
    """
    upper = None if layers is None else last_layers(model, layers)
    if wanted is None:
        structure = _structure(model)
        _log_layers_without_lora(structure)
        return _exact(model, _in_layers(structure.targets, upper))
    if tuple(wanted) == (ALL_LINEAR,):
        return _exact(model, _in_layers(_linear_maps(model), upper))
    if ALL_LINEAR in wanted:
        raise UserError(
            f"finetune.targets: {ALL_LINEAR} cannot be combined with other modules.",
            f"Remove the other modules, or remove {ALL_LINEAR}.",
        )
    matched = [name for name, _ in model.named_modules() if _ends_with_any(name, wanted)]
    if not matched:
        raise UserError(f"finetune.targets: no module of the model matches {', '.join(wanted)}.", _choice(model))
    text = _text_modules(model, record_pass(model, _TOKENS))
    kept = [name for name in matched if name in text]
    if not kept:
        raise UserError(
            f"finetune.targets: text passes through none of the modules that match {', '.join(wanted)}.", _choice(model)
        )
    within = _in_layers(kept, upper)
    return list(wanted) if within == matched else _exact(model, within)


def _in_layers(names: Sequence[str], layers: Sequence[str] | None) -> list[str]:
    """Return the names that lie in the layers. Raises `UserError` if none does."""
    if layers is None:
        return list(names)
    found = [name for name in names if _within_any(name, layers)]
    if not found:
        raise UserError(
            f"finetune.layers is {len(layers)}: the last layers hold none of the maps that get LoRA.",
            f"Raise finetune.layers, or set finetune.targets to {ALL_LINEAR}.",
        )
    return found


def _structure(model: PreTrainedModel) -> Structure:
    try:
        return find_structure(model)
    except NoAttentionError as error:
        raise UserError(
            f"llm.model: {error}, so it has no query and value projections to tune.",
            f"Set finetune.targets to {ALL_LINEAR} and effort.scope to all.",
        ) from error
    except ScoringError as error:
        raise UserError(
            f"llm.model: {error}.", f"Set finetune.targets to {ALL_LINEAR} and effort.scope to all."
        ) from error


def _log_layers_without_lora(structure: Structure) -> None:
    parts = []
    if structure.other_kinds:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(structure.other_kinds).items())
        parts.append(f"{len(structure.other_kinds)} of {len(structure.layers)} layers have no attention ({kinds})")
    without_query = sum(1 for layer in structure.attention if not layer.query)
    if without_query:
        parts.append(f"{without_query} of {len(structure.attention)} attention layers have it on values only")
    if parts:
        count = len(structure.attention)
        log.info("LoRA is on queries and values of the attention layers (%d); %s", count, "; ".join(parts))


def _linear_maps(model: PreTrainedModel) -> list[str]:
    """Return the names of the linear maps on the text's path that PEFT can adapt, except the output head.

    Maps of a name that is called in no layer are left out: some state space models read the weight of such a map
    themselves, so an adapter around it would never act. An expert that a few tokens do not reach shares its name with
    others that they do.
    """
    from transformers.pytorch_utils import Conv1D

    record = record_pass(model, _TOKENS)
    text = _text_modules(model, record) - record.composite
    head = model.get_output_embeddings()
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and name in text and module is not head
    ]
    called = {_ending(name) for name in found if name in record.executed}
    kept = {ending for ending in called if _adaptable(ending, model.config)}
    return [name for name in found if _ending(name) in kept]


def _adaptable(ending: str, config: PreTrainedConfig) -> bool:
    """Return whether PEFT accepts a linear map of this name: some state space models read such weights directly."""
    from peft import LoraConfig, inject_adapter_in_model

    stub = nn.ModuleDict({ending: nn.Linear(1, 1)})
    stub.config = config
    try:
        inject_adapter_in_model(LoraConfig(r=1, target_modules=[ending]), stub)
    except ValueError:
        return False
    return True


def _text_modules(model: PreTrainedModel, record: RecordedPass) -> set[str]:
    """Return the modules that text passes through, and every module of a layer that it passes through (all experts)."""
    executed = record.executed
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    layers = {name for name in executed if name.rpartition(".")[0] in outermost}
    return {name for name, _ in model.named_modules() if name in executed or _within_any(name, layers)}


def _within_any(name: str, layers: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in layers for length in range(1, len(parts)))


def _exact(model: nn.Module, names: Sequence[str]) -> list[str] | str:
    """Return the shortest of three forms in which PEFT takes exactly these modules."""
    if not names:
        raise UserError("finetune.targets: the model has no linear map that can be tuned.", "Use another model.")
    everything = [name for name, _ in model.named_modules()]
    wanted = set(names)
    # Names within a layer: what follows the last index into a list of layers.
    endings = list(dict.fromkeys(re.sub(r"^.*?\.\d+\.", "", name) for name in names))
    for form in (endings, list(names)):
        if {name for name in everything if _ends_with_any(name, form)} == wanted:
            return form
    return "|".join(re.escape(name) for name in names)


def _ends_with_any(name: str, endings: Sequence[str]) -> bool:
    return any(f".{name}".endswith(f".{ending}") for ending in endings)


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


def _choice(model: nn.Module) -> str:
    kinds = Counter(_ending(name) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    shown = ", ".join(name for name, _ in kinds.most_common(_SHOWN) if not name.isdecimal())
    named = f"Name modules of the model ({shown}), or" if shown else "Set"
    return f"{named} {ALL_LINEAR}, or omit the key for the query and value projections."
