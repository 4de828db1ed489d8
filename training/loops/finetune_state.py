"""The trained state of an engine as whole tensors, whatever the ZeRO stage and the number of ranks, and back.

With LoRA it is small: each rank gathers float32 parameters and both Adam moments in full. DeepSpeed's own
checkpoints are tied to the number of ranks and are pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from training.loops.finetune_engine import trainable_parameters

MOMENTS = ("exp_avg", "exp_avg_sq")
_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class OptimizerNumbers(TypedDict):
    """What a checkpoint holds of the optimizer besides its moments, as JSON: Adam's step and the loss scaler."""

    adam_step: float
    loss_scaler: dict[str, float]


def adapter_tensors(engine: deepspeed.DeepSpeedEngine) -> dict[str, Tensor]:
    """Return the adapter's whole float32 parameters on the CPU. Collective. Raises `RuntimeError` if one is empty."""
    tensors = {name: _parameter(engine, p).detach().cpu().clone() for name, p in _named(engine)}
    empty = [name for name, tensor in tensors.items() if tensor.numel() == 0]
    if empty:
        raise RuntimeError(f"{len(empty)} adapter tensors were not gathered, {empty[0]} among them")
    return tensors


def capture(engine: deepspeed.DeepSpeedEngine) -> tuple[dict[str, Tensor], OptimizerNumbers]:
    """Return all that a step depends on and changes: tensors, and numbers for JSON. Collective; call between steps."""
    adapter = adapter_tensors(engine)
    tensors = {f"parameter/{name}": tensor for name, tensor in adapter.items()}
    # Adam has no state until its first step, and in float16 the first steps may overflow and be left out.
    begun = bool(_adam(engine).state)
    for name, parameter in _named(engine):
        for moment in MOMENTS:
            held = _moment(engine, parameter, moment) if begun else torch.zeros_like(adapter[name])
            tensors[f"{moment}/{name}"] = held.detach().cpu().clone()
    steps = {float(state["step"]) for state in _adam(engine).state.values()} if begun else {0.0}
    if len(steps) != 1:
        raise RuntimeError(f"the optimizer counts different steps for different parameters: {sorted(steps)}")
    scaler = _loss_scaler(engine)
    scale = {key: getattr(scaler, key) for key in _SCALER if hasattr(scaler, key)}
    return tensors, {"adam_step": steps.pop(), "loss_scaler": scale}


def restore_parameters(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put captured parameters into a model before the engine is built, which makes its copies from them."""
    with torch.no_grad():
        for name, parameter in trainable_parameters(model).items():
            parameter.copy_(tensors[f"parameter/{name}"])


def restore_optimizer(
    engine: deepspeed.DeepSpeedEngine,
    tensors: dict[str, Tensor],
    numbers: OptimizerNumbers,
    idle_loss: Callable[[], Tensor],
) -> None:
    """Put captured parameters and moments into a fresh engine. Collective.

    The optimizer makes its moments at its first step, so one step is taken first, with rate 0 and zero gradients.

    Parameters
    ----------
    idle_loss : any loss of the model; it is multiplied by 0.
    """
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0
    engine.set_gradient_accumulation_boundary(True)
    engine.backward(idle_loss() * 0.0, scale_wrt_gas=False)
    engine.step()
    for name, parameter in _named(engine):
        _set_parameter(engine, parameter, tensors[f"parameter/{name}"])
        for moment in MOMENTS:
            _set_moment(engine, parameter, moment, tensors[f"{moment}/{name}"])
    for state in _adam(engine).state.values():
        state["step"].fill_(numbers["adam_step"])
    for key, value in numbers["loss_scaler"].items():
        setattr(_loss_scaler(engine), key, value)
    restored, _ = capture(engine)
    wrong = [key for key, tensor in tensors.items() if not torch.equal(restored[key], tensor)]
    if wrong:
        raise RuntimeError(f"{len(wrong)} tensors differ from their checkpoint after restoring, {wrong[0]} first")


def _named(engine: deepspeed.DeepSpeedEngine) -> Iterator[tuple[str, nn.Parameter]]:
    yield from trainable_parameters(engine.module).items()


def _adam(engine: deepspeed.DeepSpeedEngine) -> torch.optim.Optimizer:
    """Return the AdamW inside, whatever DeepSpeed wrapped it in."""
    return engine.optimizer if isinstance(engine.optimizer, torch.optim.AdamW) else engine.optimizer.optimizer


def _loss_scaler(engine: deepspeed.DeepSpeedEngine) -> Any:
    """Return the counter of steps since the last overflow, whose name depends on ZeRO; None if there is none."""
    optimizer = engine.optimizer
    return getattr(optimizer, "loss_scaler", None) or getattr(optimizer, "loss_scale_config", None)


def _master(engine: deepspeed.DeepSpeedEngine, parameter: nn.Parameter) -> Tensor:
    """Return the tensor that AdamW steps without ZeRO: the parameter, or its float32 copy in float16 mode."""
    for half, full in zip(
        getattr(engine.optimizer, "fp16_groups", []),
        getattr(engine.optimizer, "fp32_groups", []),
        strict=True,
    ):
        for candidate, master in zip(half, full, strict=True):
            if candidate is parameter:
                return master
    return parameter


def _parameter(engine: deepspeed.DeepSpeedEngine, parameter: nn.Parameter) -> Tensor:
    whole = safe_get_full_fp32_param(parameter)
    return _master(engine, parameter) if whole is None else whole


def _moment(engine: deepspeed.DeepSpeedEngine, parameter: nn.Parameter, moment: str) -> Tensor:
    whole = safe_get_full_optimizer_state(parameter, moment)
    return _adam(engine).state[_master(engine, parameter)][moment] if whole is None else whole


def _set_parameter(engine: deepspeed.DeepSpeedEngine, parameter: nn.Parameter, value: Tensor) -> None:
    value = value.to(engine.device)
    stage = engine.zero_optimization_stage()
    if stage == 3:
        safe_set_local_fp32_param(parameter, _own_part(parameter, value))
    elif stage == 0:
        _master(engine, parameter).data.copy_(value)
    else:
        safe_set_full_fp32_param(parameter, value)


def _set_moment(engine: deepspeed.DeepSpeedEngine, parameter: nn.Parameter, moment: str, value: Tensor) -> None:
    value = value.to(engine.device)
    stage = engine.zero_optimization_stage()
    if stage == 3:
        safe_set_local_optimizer_state(parameter, _own_part(parameter, value), moment)
    elif stage == 0:
        _adam(engine).state[_master(engine, parameter)][moment].copy_(value)
    else:
        safe_set_full_optimizer_state(parameter, value, moment)


def _own_part(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Return this rank's slice under ZeRO-3, with zeros behind the last one."""
    size = getattr(parameter, "ds_tensor").numel()  # noqa: B009
    padded = nn.functional.pad(value.flatten(), (0, size * dist.get_world_size() - value.numel()))
    return padded.narrow(0, size * dist.get_rank(), size)
