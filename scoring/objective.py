"""A model's outputs as a function of the parameters in scope: what every derivative here is taken of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scoring.losses import OutputLoss
from scoring.scope import Scope

Parameters = dict[str, Tensor]


class Differentiable(Protocol):
    """A module, or a view of the one in its attribute `module`, with a loss that is a function of its
    outputs.

    A batch is a tensor or a (named) tuple of tensors with samples along their first dimension; entries may be
    None.
    """

    @property
    def criterion(self) -> OutputLoss: ...

    def outputs(self, batch: Any) -> Tensor:
        """[B, C]; row b depends on sample b alone."""


def module_of(objective: Differentiable) -> nn.Module:
    """The module that owns the parameters."""
    module: nn.Module = objective if isinstance(objective, nn.Module) else objective.module  # type: ignore[attr-defined]
    return module


def reduce_to_scope(model: Any, scope: Scope) -> Any:
    """The cheapest equal objective for a scope: the model's `reduced` view where there is one."""
    reduced = getattr(model, "reduced", None)
    view = None if reduced is None else reduced(scope.names)
    return model if view is None else view


def prepare_batches(objective: Differentiable, batches: Iterable[Any], curvature: bool) -> list[Any]:
    """The batches with what an iterative solver would compute over and over: for objectives with `prepare`.

    `curvature` asks for the d × d Hessian of each sample's loss too, 4d² bytes in float32, where that is little.
    """
    prepare = getattr(objective, "prepare", None)
    return list(batches) if prepare is None else [prepare(batch, curvature) for batch in batches]


@contextmanager
def evaluation(objective: Differentiable) -> Iterator[None]:
    """Evaluation mode (no dropout) inside, what was before outside."""
    module = module_of(objective)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def scope_parameters(objective: Differentiable, scope: Scope) -> Parameters:
    """The present values in scope, detached."""
    values = dict(module_of(objective).named_parameters())
    return {name: values[name].detach() for name in scope.names}


def outputs_function(objective: Differentiable, scope: Scope) -> Callable[[Parameters, Any], Tensor]:
    """(parameters in scope, batch) → outputs, all other parameters held constant.

    Since the others are detached, neither a graph nor a tangent exists for any layer below the lowest in
    scope.
    """
    module = module_of(objective)
    call = _OutputsCall(module, objective.outputs)
    rest = {
        f"module.{name}": parameter.detach()
        for name, parameter in module.named_parameters()
        if name not in set(scope.names)
    }

    def outputs(parameters: Parameters, batch: Any) -> Tensor:
        renamed = {f"module.{name}": value for name, value in parameters.items()}
        result: Tensor = torch.func.functional_call(call, {**rest, **renamed}, (batch,))
        return result

    return outputs


class _OutputsCall(nn.Module):
    """Lets `functional_call`, which calls `forward`, reach another method of a module."""

    def __init__(self, module: nn.Module, method: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, batch: Any) -> Tensor:
        return self.method(batch)


def batch_tensors(batch: Any) -> list[Tensor]:
    """The tensors of a batch, in order."""
    return [batch] if isinstance(batch, Tensor) else [part for part in batch if part is not None]


def with_tensors(batch: Any, tensors: list[Tensor]) -> Any:
    """A batch of the same kind that holds `tensors` in place of its own."""
    if isinstance(batch, Tensor):
        return tensors[0]
    rest = iter(tensors)
    parts = [None if part is None else next(rest) for part in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def batch_rows(batch: Any) -> int:
    """B, the samples in a batch."""
    return int(batch_tensors(batch)[0].shape[0])
