"""Attention projections of a causal language model, found by structure instead of by name.

A sequence of one token attends to one key, so its attention weight is 1 whatever the query and the key:
their projections get no gradient. The first linear map of a decoder layer, in the order of execution, whose
output has a gradient is therefore the value projection, or the fused projection that contains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scoring.errors import ScoringError

# Gradients this much below the largest one of the layer are rounding of a kernel that fuses the attention.
NEGLIGIBLE = 1e-6
WRAPPED = ".base_layer"


@dataclass(frozen=True)
class Projections:
    """Names of the last decoder layer's projections; the same name twice where query and value are fused."""

    query: str
    value: str
    layer: str

    def siblings(self) -> tuple[str, ...]:
        """Names relative to a decoder layer, which hold in every layer; query first, no repetition."""
        relative = (name.removeprefix(self.layer + ".") for name in (self.query, self.value))
        return tuple(dict.fromkeys(relative))


def last_decoder_layer(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the last decoder layer: the end of the longest outermost list of same-class modules.

    Raises ScoringError if the model holds no such list.
    """
    best: tuple[str, nn.ModuleList] | None = None
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    for name, module in lists.items():
        nested = any(name.startswith(other + ".") for other in lists)
        if nested or len(module) == 0 or len({type(child) for child in module}) != 1:
            continue
        if best is None or len(module) > len(best[1]):
            best = (name, module)
    if best is None:
        raise ScoringError(f"{type(model).__name__} has no list of decoder layers")
    name, layers = best
    return f"{name}.{len(layers) - 1}", layers[len(layers) - 1]


def find_projections(model: nn.Module) -> Projections:
    """Query and value projections of the last decoder layer, by one pass forward and back over one token.

    `model(input_ids=[1, 1], use_cache=False)` must return an object with `logits`. Inside a wrapper such as
    a LoRA layer, the wrapper's own name is given.

    Raises ScoringError if no linear map of the layer gets a gradient.
    """
    layer_name, layer = last_decoder_layer(model)
    order: list[str] = []
    outputs: list[Tensor] = []

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                order.append(name)
                outputs.append(output)

        return hook

    def start_graph(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (args[0].detach().requires_grad_(), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"].detach().requires_grad_()}

    handles = [layer.register_forward_pre_hook(start_graph, with_kwargs=True)]
    for name, module in layer.named_modules():
        # An adapter inside a wrapped layer is no projection of the model.
        if _is_linear(module) and ".lora_" not in f".{name}":
            full = f"{layer_name}.{name}"
            handles.append(module.register_forward_hook(record(full.removesuffix(WRAPPED))))
    training = model.training
    model.eval()
    try:
        # This kernel's softmax has an exact gradient at one key: zero.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            token = torch.ones((1, 1), dtype=torch.long, device=next(model.parameters()).device)
            logits = model(input_ids=token, use_cache=False).logits.float()
            gradients = torch.autograd.grad(logits.square().sum(), outputs, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    norms = [0.0 if g is None else float(g.float().norm()) for g in gradients]
    floor = NEGLIGIBLE * max(norms, default=0.0)
    moved = [name for name, norm in zip(order, norms, strict=True) if norm > floor]
    if not moved:
        raise ScoringError(f"no value projection found in {layer_name} of {type(model).__name__}")
    return Projections(query=order[0], value=moved[0], layer=layer_name)


def _is_linear(module: nn.Module) -> bool:
    """Whether the module is a leaf with a weight matrix: nn.Linear, or GPT-2's transposed linear map."""
    weight = getattr(module, "weight", None)
    leaf = next(module.children(), None) is None
    return leaf and isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(module, nn.Embedding)
