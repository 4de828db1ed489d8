"""The parameters that a score is computed over, and their order in one flat vector."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

import torch
from torch import Tensor, nn

from scoring.exceptions import ScopeError

_REGEX_PREFIX = "re:"


@dataclass(frozen=True)
class Scope:
    """Names and shapes of some of a model's parameters, in the model's order. Holds no tensors, so it is cheap to send.

    Attributes
    ----------
    names : parameter names.
    shapes : shape of each parameter.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Start of each parameter in the flat vector, followed by the vector's size."""
        offsets = [0]
        for shape in self.shapes:
            offsets.append(offsets[-1] + torch.Size(shape).numel())
        return tuple(offsets)

    @property
    def size(self) -> int:
        """P, the number of scalars."""
        return self.offsets[-1]

    def span(self, name: str) -> slice:
        """Return the span of one parameter in the flat vector."""
        index = self.names.index(name)
        return slice(self.offsets[index], self.offsets[index + 1])

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Flatten a tensor [..., *shape] for every name into float64 [..., P]."""
        return self.flatten_rows({name: tensors[name].detach() for name in self.names}).to(torch.float64)

    def flatten_rows(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Flatten tensors [..., *shape] into [..., P], in their own precision."""
        parts = [
            tensors[name].reshape(*tensors[name].shape[: tensors[name].ndim - len(shape)], -1)
            for name, shape in zip(self.names, self.shapes, strict=True)
        ]
        return torch.cat(parts, dim=-1)

    def unflatten(self, vector: Tensor, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Split a vector [..., P] into tensors by name; leading dimensions stay in front of each shape."""
        if vector.shape[-1] != self.size:
            raise ScopeError(f"a vector of {vector.shape[-1]} entries does not fit a scope of {self.size}")
        lead = vector.shape[:-1]
        return {
            name: vector[..., start:end].reshape(*lead, *shape).to(dtype or vector.dtype)
            for name, shape, (start, end) in zip(self.names, self.shapes, pairwise(self.offsets), strict=True)
        }


def select_scope(model: nn.Module, patterns: Sequence[str]) -> Scope:
    """Select the trainable parameters of `model` that match any pattern.

    Frozen parameters belong to no scope: no sample has changed them, so removing one cannot either.

    Parameters
    ----------
    model : any module.
    patterns : shell patterns over parameter names (`blocks.1.*`, `*.weight`, `*`), or `re:` and a regular
        expression that must match the whole name.

    Raises
    ------
    ScopeError : a pattern matches nothing or is not a regular expression; the message lists the valid names.
    """
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items() if parameter.requires_grad}
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in shapes if _matches(name, pattern)}
        if not matched:
            frozen = any(_matches(name, pattern) for name in parameters)
            what = "only frozen parameters match" if frozen else "no parameter matches"
            raise ScopeError(f"{what} {pattern!r}; the model has {', '.join(shapes)}")
        chosen |= matched
    if not chosen:
        raise ScopeError("the scope has no pattern")
    names = tuple(name for name in shapes if name in chosen)
    return Scope(names, tuple(shapes[name] for name in names))


def _matches(name: str, pattern: str) -> bool:
    if not pattern.startswith(_REGEX_PREFIX):
        return fnmatchcase(name, pattern)
    try:
        return re.fullmatch(pattern[len(_REGEX_PREFIX) :], name) is not None
    except re.error as error:
        raise ScopeError(f"{pattern!r} is not a regular expression: {error}") from error
