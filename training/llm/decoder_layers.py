"""The decoder layers of a causal language model, in the order in which text passes through them."""

from __future__ import annotations

from torch import nn

from cluster.errors import UserError
from scoring.exceptions import NoAttentionError, ScoringError
from scoring.projections import find_structure
from scoring.recorded_pass import record_pass

_TOKENS = 8


def decoder_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the decoder layers; of a model without attention, the longest list that text runs through.

    Raises `UserError` if there are none.
    """
    try:
        return find_structure(model).layers
    except NoAttentionError:
        executed = record_pass(model, _TOKENS).executed
        lists = [
            [f"{name}.{index}" for index in range(len(module))]
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList)
        ]
        found = max(([name for name in names if name in executed] for names in lists), key=len, default=[])
        if found:
            return tuple(found)
        raise UserError("finetune.layers: the model has no list of layers.", "Set finetune.layers to all.") from None
    except ScoringError as error:
        raise UserError(f"finetune.layers: {error}.", "Set finetune.layers to all.") from error


def last_layers(model: nn.Module, count: int) -> tuple[str, ...]:
    """Return the names of the last `count` decoder layers. Raises `UserError` unless there are more than that."""
    names = decoder_layers(model)
    if not 1 <= count < len(names):
        raise UserError(
            f"finetune.layers is {count}, but the model has {len(names)} decoder layers.",
            f"Set finetune.layers to at most {len(names) - 1}, or to all." if len(names) > 1 else "Set it to all.",
        )
    return names[-count:]
