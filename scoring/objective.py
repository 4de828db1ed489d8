"""A model's outputs as a function of the parameters in scope, from which all derivatives are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from scoring.losses import BatchT_contra, OutputLoss
from scoring.scope import Scope

Parameters = dict[str, Tensor]
BatchT = TypeVar("BatchT")


class Differentiable(Protocol[BatchT_contra]):
    """A module, or a view of the one in its attribute `module`, whose loss is a function of its outputs.

    A batch is a tensor or a (named) tuple of tensors with samples along their first dimension; entries may be None.
    """

    @property
    def criterion(self) -> OutputLoss[BatchT_contra]: ...

    def outputs(self, batch: BatchT_contra) -> Tensor:
        """Return the outputs [B, C]; row b depends only on sample b."""


def module_of(objective: Differentiable) -> nn.Module:
    """Return the module that owns the parameters."""
    module: nn.Module = objective if isinstance(objective, nn.Module) else objective.module  # type: ignore[attr-defined]
    return module


def reduce_to_scope(model: Differentiable[BatchT], scope: Scope) -> Differentiable[BatchT]:
    """Return the cheapest equal objective for a scope: the model's `reduced` view if it has one."""
    reduced = getattr(model, "reduced", None)
    view: Differentiable[BatchT] | None = None if reduced is None else reduced(scope.names)
    return model if view is None else view


def prepare_batches(objective: Differentiable[BatchT], batches: Iterable[BatchT], curvature: bool) -> list[BatchT]:
    """Precompute, for objectives with `prepare`, what an iterative solver would recompute for each batch.

    `curvature` also asks for the d × d Hessian of each sample's loss (4d² bytes in float32), if that is small.
    """
    prepare = getattr(objective, "prepare", None)
    return list(batches) if prepare is None else [prepare(batch, curvature) for batch in batches]


@contextmanager
def evaluation(objective: Differentiable) -> Iterator[None]:
    """Put the objective in evaluation mode (no dropout) during a block, and restore the mode after it."""
    module = module_of(objective)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def scope_parameters(objective: Differentiable, scope: Scope) -> Parameters:
    """Return the current values of the parameters in scope, detached."""
    values = dict(module_of(objective).named_parameters())
    return {name: values[name].detach() for name in scope.names}


def outputs_function(objective: Differentiable[BatchT], scope: Scope) -> Callable[[Parameters, BatchT], Tensor]:
    """Return the function (parameters in scope, batch) → outputs, with all other parameters constant.

    The others are detached, so layers below the lowest one in scope have neither a graph nor tangents.
    """
    module = module_of(objective)
    call = _OutputsCall(module, objective.outputs)
    rest = {
        f"module.{name}": parameter.detach()
        for name, parameter in module.named_parameters()
        if name not in set(scope.names)
    }

    def outputs(parameters: Parameters, batch: BatchT) -> Tensor:
        renamed = {f"module.{name}": value for name, value in parameters.items()}
        result: Tensor = torch.func.functional_call(call, {**rest, **renamed}, (batch,))
        return result

    return outputs


class _OutputsCall(nn.Module):
    """Makes another method of a module callable through `functional_call`, which calls `forward`."""

    def __init__(self, module: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, batch: object) -> Tensor:
        return self.method(batch)


def batch_tensors(batch: object) -> list[Tensor]:
    """Return the tensors of a batch, in order."""
    return [batch] if isinstance(batch, Tensor) else [part for part in _parts(batch) if part is not None]


def with_tensors(batch: BatchT, tensors: list[Tensor]) -> BatchT:
    """Return a batch of the same kind with `tensors` in place of its own."""
    if isinstance(batch, Tensor):
        return cast(BatchT, tensors[0])
    rest = iter(tensors)
    parts = [None if part is None else next(rest) for part in _parts(batch)]
    kind: Callable[..., BatchT] = type(batch)
    return kind(*parts) if hasattr(batch, "_fields") else kind(parts)


def _parts(batch: object) -> Sequence[Tensor | None]:
    return cast("Sequence[Tensor | None]", batch)


def batch_rows(batch: object) -> int:
    """Return B, the number of samples in a batch."""
    return int(batch_tensors(batch)[0].shape[0])
