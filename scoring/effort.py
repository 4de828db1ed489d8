"""Effort scores: the gradient norm of the LLM's loss at each sample (DEALRec, Lin et al., 2024).

δ(s) = ‖∇_φ ℓ(s)‖₂, where ℓ is the mean negative log-likelihood of the response and φ are LoRA tensors. A linear map
y = W x has ∇_W ℓ = Σ_t (∂ℓ/∂y_t) x_tᵀ. So the inputs and output gradients of the tuned maps give every row's own
gradient after one backward pass on the sum of the losses. The graph starts at the output of the lowest tuned map:
everything below it runs without autograd, and no weight gradient is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scoring.chosen_logits import chosen_logits
from scoring.exceptions import ScopeError, SettingError, UnadaptedError
from scoring.projections import find_structure

#: In float16, a probability of 1e-5 shared by a hundred tokens would underflow.
_HALF_SCALE = 1024.0

#: Prefix of the names of modules that an adapter wraps.
_PEFT_PREFIX = "base_model.model."

Scope = Literal["last_v", "all"]
Tokens = Literal["response", "all"]


class EffortBatch(Protocol):
    """B padded token sequences of T columns; `labels` are not shifted, and negative outside the response."""

    @property
    def input_ids(self) -> Tensor: ...
    @property
    def attention_mask(self) -> Tensor: ...
    @property
    def position_ids(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


@dataclass
class _Captured:
    """Calls of the tuned linear maps in one forward pass, with inputs and outputs; a map may be called repeatedly."""

    modules: list[nn.Module] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


class EffortScorer:
    """Computes per-sample gradient norms of a causal language model with a LoRA adapter.

    Parameters
    ----------
    model : the adapted model, called with `input_ids`, `attention_mask`, `position_ids` and `use_cache`. Its
        `get_output_embeddings()` maps hidden states to logits. It is put in evaluation mode and all its parameters
        are frozen.
    scope : "last_v" for lora_B of the last attention layer's value projection (the fused projection, or all of
        several), or "all" for every lora_A and lora_B.
    tokens : "response", or "all" for every token of prompt and response except the first.

    Raises `ScopeError` if the model has no LoRA on what the scope names, `NoAttentionError` for "last_v" with a model
    without attention, and `SettingError` for an unknown option.
    """

    def __init__(self, model: nn.Module, scope: Scope = "last_v", tokens: Tokens = "response") -> None:
        if scope not in ("last_v", "all"):
            raise SettingError(f"effort scope must be last_v or all, got {scope!r}")
        if tokens not in ("response", "all"):
            raise SettingError(f"effort tokens must be response or all, got {tokens!r}")
        self.model = model.eval().requires_grad_(False)
        self.scope = scope
        self.tokens = tokens
        adapted = {
            name: module
            for name, module in model.named_modules()
            if isinstance(getattr(module, "lora_B", None), nn.ModuleDict)
        }
        if scope == "last_v":
            tuned = set(find_structure(model).value)
            bare = sorted(tuned - set(adapted))
            if bare:
                maps = tuple(name.removeprefix(_PEFT_PREFIX) for name in bare)
                raise UnadaptedError(f"there is no LoRA on the last value projection, {', '.join(maps)}", maps)
            self.modules = [branch for name in sorted(tuned) for branch in _branches(adapted[name], "lora_B")]
        else:
            parts = [(module, part) for module in adapted.values() for part in ("lora_A", "lora_B")]
            self.modules = [branch for module, part in parts for branch in _branches(module, part)]
            tuned = set(adapted)
        if not self.modules:
            raise ScopeError("the model has no LoRA adapter")
        # A branch whose B is zero contributes nothing, and its gradient is not needed outside the scope.
        self._idle = [m for name, m in adapted.items() if name not in tuned and not _adds(m)]
        self._head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]

    def per_sample_norms(self, batch: EffortBatch) -> npt.NDArray[np.float32]:
        """Return δ of every row, float32 [B]; not finite if the loss is not, and 0 for a row without counted tokens.

        Up to rounding, a row's value does not depend on the other rows or on padding.
        """
        counted = self._counted(batch)
        if not bool(counted.any()):
            return np.zeros(len(counted), dtype=np.float32)
        captured = _Captured()
        with (
            torch.enable_grad(),
            self._without_idle(),
            self._capturing(captured),
            chosen_logits(self._head, counted),
        ):
            output = self.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            )
            logits = output.logits[0]
            scale = _HALF_SCALE if logits.dtype == torch.float16 else 1.0
            upstream = _loss_gradient(logits, batch.input_ids[:, 1:][counted], counted, scale)
            gradients = torch.autograd.grad(logits, captured.outputs, upstream, allow_unused=True)
        padding = batch.attention_mask == 0
        calls: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
        for module, inputs, gradient in zip(captured.modules, captured.inputs, gradients, strict=True):
            if gradient is not None:
                calls.setdefault(module, []).append(_token_rows(inputs, gradient, padding))
        squares = torch.zeros(len(counted), device=logits.device)
        for pairs in calls.values():
            # A map that is used repeatedly has one gradient, the sum over its uses.
            x, g = (torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))
            squares = squares + _squared_norms(x, g)
        return (squares.sqrt() / scale).float().cpu().numpy()

    def _counted(self, batch: EffortBatch) -> Tensor:
        """Return which next tokens are in the loss, bool [B, T - 1]: entry t is for the token of column t + 1."""
        if self.tokens == "response":
            return batch.labels[:, 1:] >= 0
        # A row's first real token has no predecessor to predict it.
        return (batch.attention_mask[:, 1:] * batch.attention_mask[:, :-1]) > 0

    @contextmanager
    def _capturing(self, captured: _Captured) -> Iterator[None]:
        """Record the calls of the tuned maps."""

        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            leaf = output if output.requires_grad else output.detach().requires_grad_()
            captured.modules.append(module)
            captured.inputs.append(args[0].detach())
            captured.outputs.append(leaf)
            return leaf

        handles = [module.register_forward_hook(hook) for module in self.modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _without_idle(self) -> Iterator[None]:
        for module in self._idle:
            _switch(module, on=False)
        try:
            yield
        finally:
            for module in self._idle:
                _switch(module, on=True)
            self.model.requires_grad_(False)


def _branches(module: nn.Module, part: str) -> list[nn.Module]:
    """Return the linear maps of one side of the active adapters."""
    maps: nn.ModuleDict = getattr(module, part)
    active: Sequence[str] = getattr(module, "active_adapters", list(maps))
    return [maps[name] for name in active if name in maps]


def _adds(module: nn.Module) -> bool:
    return any(bool(tensor.any()) for branch in _branches(module, "lora_B") for tensor in branch.parameters())


def _switch(module: nn.Module, on: bool) -> None:
    enable: Callable[[bool], None] = module.enable_adapters  # type: ignore[assignment]
    enable(on)


def _loss_gradient(logits: Tensor, targets: Tensor, counted: Tensor, scale: float = 1.0) -> Tensor:
    """Return the scaled gradient in the logits, [N, V], of the sum over rows of the mean NLL of counted tokens.

    `logits` is [N, V] and `targets` [N], for the N counted tokens in row order. The closed form is softmax minus one at
    the target, because autograd would make three more passes over the largest tensor. The softmax is computed at least
    in float32.
    """
    gradient = logits.detach().softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    gradient[torch.arange(len(targets), device=targets.device), targets] -= 1
    weights = (counted.to(gradient.dtype) * scale / counted.sum(dim=1, keepdim=True))[counted]
    return gradient.mul_(weights[:, None]).to(logits.dtype)


def _token_rows(inputs: Tensor, gradients: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Return a call's inputs [B, T', in] and gradients [B, T', out], at least in float32, with gradients 0 on padding.

    `padding` is [B, T]. Inputs may be flattened to [B T, in], may consist of several parts per token
    ([B, T, parts, in]), or may be one per row. Axes of length 1 are ignored.
    """
    rows, columns = padding.shape
    first, *others = inputs.shape[:-1]
    inner = [size for size in others if size != 1]
    whole_row = first == rows and not inner
    if not whole_row and (first, inner) != (rows * columns, []) and (first, inner[:1]) != (rows, [columns]):
        raise ScopeError(
            f"a tuned map sees inputs of shape {tuple(inputs.shape)} for a batch of {rows} rows of {columns} tokens, "
            "so inputs cannot be assigned to rows"
        )
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    tokens = 1 if whole_row else columns
    x = inputs.reshape(rows, tokens, -1, inputs.shape[-1]).to(dtype)
    g = gradients.reshape(rows, tokens, -1, gradients.shape[-1]).to(dtype)
    if tokens == columns:
        g = g.masked_fill(padding[:, :, None, None], 0)
    return x.flatten(1, 2), g.flatten(1, 2)


def _squared_norms(x: Tensor, g: Tensor) -> Tensor:
    """Return ‖Σ_t g_t x_tᵀ‖² of every row, [B], from x [B, T, in] and g [B, T, out]."""
    if x.shape[1] * (x.shape[-1] + g.shape[-1]) < x.shape[-1] * g.shape[-1]:
        # ‖Σ_t g_t x_tᵀ‖² = Σ_ts (g_t · g_s)(x_t · x_s)
        return ((x @ x.mT) * (g @ g.mT)).sum(dim=(1, 2))
    return torch.einsum("bto,btr->bor", g, x).square().sum(dim=(1, 2))
