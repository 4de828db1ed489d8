"""Which linear maps of a language model get LoRA: by default those of queries and values, in the text's path alone."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from cluster.errors import UserError
from scoring.exceptions import NoAttentionError, ScoringError
from scoring.projections import Structure, find_structure
from scoring.recorded_pass import RecordedPass, record_pass
from training.llm.llm_spec import ALL_LINEAR

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("dealrec.lora")

_TOKENS = 8
_SHOWN = 12


def lora_targets(model: PreTrainedModel, wanted: Sequence[str] | None) -> list[str] | str:
    """What to give PEFT as `target_modules`: names, their endings, or a regular expression where neither is exact.

    Parameters
    ----------
    wanted : names of modules or their endings; ("all-linear",) for every linear map but the output head; None for
        the query and value projections, or the fused ones, of all attention layers.

    Modules that a text does not pass through (a vision tower, say) are left out. Raises UserError if nothing is left.
    """
    if wanted is None:
        structure = _structure(model)
        _say_what_is_left_out(structure)
        return _exact(model, structure.targets)
    if tuple(wanted) == (ALL_LINEAR,):
        return _exact(model, _linear_maps(model))
    if ALL_LINEAR in wanted:
        raise UserError(f"finetune.targets: {ALL_LINEAR} stands alone.", "Leave out the other modules, or the word.")
    matched = [name for name, _ in model.named_modules() if _ends_with_any(name, wanted)]
    if not matched:
        raise UserError(f"finetune.targets: no module of the model matches {', '.join(wanted)}.", _choice(model))
    text = _text_modules(model, record_pass(model, _TOKENS))
    kept = [name for name in matched if name in text]
    if not kept:
        raise UserError(
            f"finetune.targets: text passes through no module that matches {', '.join(wanted)}.", _choice(model)
        )
    return list(wanted) if kept == matched else _exact(model, kept)


def _structure(model: PreTrainedModel) -> Structure:
    try:
        return find_structure(model)
    except NoAttentionError as error:
        raise UserError(
            f"llm.model: {error}, so that it has no query and value projections to tune.",
            f"Set finetune.targets to {ALL_LINEAR}, and effort.scope to all.",
        ) from error
    except ScoringError as error:
        raise UserError(
            f"llm.model: {error}.", f"Set finetune.targets to {ALL_LINEAR}, and effort.scope to all."
        ) from error


def _say_what_is_left_out(structure: Structure) -> None:
    parts = []
    if structure.other_kinds:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(structure.other_kinds).items())
        parts.append(f"{len(structure.other_kinds)} of {len(structure.layers)} layers have none ({kinds})")
    without_query = sum(1 for layer in structure.attention if not layer.query)
    if without_query:
        parts.append(f"{without_query} of {len(structure.attention)} have it on values alone")
    if parts:
        count = len(structure.attention)
        log.info("LoRA is on queries and values of the attention layers (%d); %s", count, "; ".join(parts))


def _linear_maps(model: PreTrainedModel) -> list[str]:
    """Linear maps of the text's path that PEFT can adapt, the output head excepted."""
    from transformers.pytorch_utils import Conv1D

    record = record_pass(model, _TOKENS)
    text = _text_modules(model, record) - record.composite
    head = model.get_output_embeddings()
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and name in text and module is not head
    ]
    refused = {ending for ending in {_ending(name) for name in found} if not _adaptable(ending, model.config)}
    return [name for name in found if _ending(name) not in refused]


def _adaptable(ending: str, config: Any) -> bool:
    """Whether PEFT takes a linear map of this name in a model of this kind: state space models read some directly."""
    from peft import LoraConfig, inject_adapter_in_model

    stub = nn.ModuleDict({ending: nn.Linear(1, 1)})
    stub.config = config
    try:
        inject_adapter_in_model(LoraConfig(r=1, target_modules=[ending]), stub)
    except ValueError:
        return False
    return True


def _text_modules(model: PreTrainedModel, record: RecordedPass) -> set[str]:
    """Modules that a text passes through, and all of every layer that it passes through, whichever expert it takes."""
    executed = record.executed
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    layers = {name for name in executed if name.rpartition(".")[0] in outermost}
    return {name for name, _ in model.named_modules() if name in executed or _within_any(name, layers)}


def _within_any(name: str, layers: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in layers for length in range(1, len(parts)))


def _exact(model: nn.Module, names: Sequence[str]) -> list[str] | str:
    """The shortest of three forms that PEFT takes for these modules and no others."""
    if not names:
        raise UserError("finetune.targets: no linear map of the model can be tuned.", "Use another model.")
    everything = [name for name, _ in model.named_modules()]
    wanted = set(names)
    # In a layer's own terms: what follows the last place in a list of layers.
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
    return f"{named} {ALL_LINEAR}, or leave the key out for the query and value projections."
