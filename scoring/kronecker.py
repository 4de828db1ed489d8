"""Kronecker-factored curvature of linear layers with corrected eigenvalues (George et al., NeurIPS 2018).

For a linear layer y = Wx, a sample's Gauss-Newton block is a sum over the columns c of the square root of its output
Hessian and over its positions n of (Σₙ δₙxₙᵀ)(Σₙ δₙxₙᵀ)ᵀ, where δ is the pull-back of c to y. The factors Σ xxᵀ and
Σ δδᵀ give an eigenbasis, and the second moment of every entry of Σₙ δₙxₙᵀ in that basis gives the eigenvalues. Both are
sums over samples. Columns are exact rather than sampled, so nothing depends on the composition of batches. Blocks of
different layers are treated as independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoring.exceptions import NonFiniteError, ScopeError
from scoring.objective import (
    BatchT,
    Differentiable,
    batch_rows,
    evaluation,
    module_of,
    outputs_function,
    scope_parameters,
)
from scoring.scope import Scope


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer in scope: its weight, and its bias as one more input that is always 1.

    Attributes
    ----------
    name : name of the module.
    bias : whether the bias is in scope.
    """

    name: str
    bias: bool

    @property
    def weight_name(self) -> str:
        return f"{self.name}.weight" if self.name else "weight"

    @property
    def bias_name(self) -> str:
        return f"{self.name}.bias" if self.name else "bias"

    def matrix(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the layer's matrix, [..., out, in (+ 1)], from tensors by parameter name."""
        weight = parameters[self.weight_name]
        return torch.cat([weight, parameters[self.bias_name][..., None]], dim=-1) if self.bias else weight

    def parameters(self, matrix: Tensor) -> dict[str, Tensor]:
        """Split a matrix [..., out, in (+ 1)] into tensors by parameter name."""
        if not self.bias:
            return {self.weight_name: matrix}
        return {self.weight_name: matrix[..., :-1], self.bias_name: matrix[..., -1]}


@dataclass(frozen=True, eq=False)
class LayerSums:
    """Sums over samples as a float64 matrix per name, to be added over shards in their order."""

    tensors: Mapping[str, Tensor]
    count: int

    def __add__(self, other: LayerSums) -> LayerSums:
        tensors = dict(self.tensors)
        for name, value in other.tensors.items():
            tensors[name] = tensors[name] + value if name in tensors else value
        return LayerSums(tensors, self.count + other.count)

    def mean(self, name: str) -> Tensor:
        return self.tensors[name] / self.count


@dataclass(frozen=True, eq=False)
class KroneckerBasis:
    """Eigenvectors of both factors of each layer, in columns: inputs [in, in], outputs [out, out]."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def linear_layers(objective: Differentiable, scope: Scope) -> tuple[LinearLayer, ...]:
    """Return the linear layers that make up a scope.

    Raises
    ------
    ScopeError : the scope contains anything other than weights of `nn.Linear` and their biases.
    """
    modules = dict(module_of(objective).named_modules())
    names = set(scope.names)
    layers = []
    for name in scope.names:
        owner, _, kind = name.rpartition(".")
        layer = LinearLayer(owner, bias=LinearLayer(owner, False).bias_name in names)
        if not isinstance(modules.get(owner), nn.Linear) or layer.weight_name not in names:
            raise ScopeError(
                f"ekfac needs linear layers with their weight, but {name!r} is not in one; cg accepts any scope"
            )
        if kind == "weight":
            layers.append(layer)
    return tuple(layers)


def kronecker_factor_sums(objective: Differentiable[BatchT], scope: Scope, batches: Iterable[BatchT]) -> LayerSums:
    """Return Σ xxᵀ as `<layer>/inputs` and Σ δδᵀ as `<layer>/outputs`, over samples and positions.

    Positions on which no output depends (padding, or positions that the mask hides) are excluded from both.
    """
    layers = linear_layers(objective, scope)
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        inputs, columns = _captured(objective, scope, layers, batch)
        live: dict[str, Tensor] = {}
        for slopes in columns:
            for name, slope in slopes.items():
                seen = (slope != 0).any(-1)
                live[name] = live[name] | seen if name in live else seen
                _add(sums, f"{name}/outputs", slope.flatten(0, 1).T @ slope.flatten(0, 1))
        for name, mask in live.items():
            rows = inputs[name][mask]
            _add(sums, f"{name}/inputs", rows.T @ rows)
        count += batch_rows(batch)
    return LayerSums(sums, count)


def kronecker_basis(factors: LayerSums) -> KroneckerBasis:
    """Return the eigenvectors of the factors. Raises `NonFiniteError` if one contains NaN or infinity."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for name, matrix in factors.tensors.items():
        if not bool(torch.isfinite(matrix).all()):
            raise NonFiniteError(f"the curvature factor {name} contains values that are not finite")
        layer, _, kind = name.rpartition("/")
        (inputs if kind == "inputs" else outputs)[layer] = torch.linalg.eigh(matrix)[1]
    return KroneckerBasis(inputs, outputs)


def eigenvalue_sums(
    objective: Differentiable[BatchT], scope: Scope, basis: KroneckerBasis, batches: Iterable[BatchT]
) -> LayerSums:
    """Return Σ over samples and columns of each squared gradient entry in the basis, [out, in (+ 1)] by layer."""
    layers = linear_layers(objective, scope)
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        inputs, columns = _captured(objective, scope, layers, batch)
        turned = {name: value @ basis.inputs[name].to(value) for name, value in inputs.items()}
        for slopes in columns:
            for name, slope in slopes.items():
                outward = slope @ basis.outputs[name].to(slope)
                if outward.shape[1] == 1:
                    squares = outward[:, 0].square().T @ turned[name][:, 0].square()
                else:
                    squares = (outward.mT @ turned[name]).square().sum(0)
                _add(sums, name, squares)
        count += batch_rows(batch)
    return LayerSums(sums, count)


def _captured(
    objective: Differentiable[BatchT], scope: Scope, layers: tuple[LinearLayer, ...], batch: BatchT
) -> tuple[dict[str, Tensor], Iterator[dict[str, Tensor]]]:
    """Return the inputs [B, n, in (+ 1)] of each layer and, by Hessian column, the gradients [B, n, out] at its output.

    A layer that runs several times in a forward pass has the positions of all its runs.

    Raises `ScopeError` for a layer that does not run, or that runs on something other than the batch's samples.
    """
    modules = dict(module_of(objective).named_modules())
    runs: dict[str, list[tuple[Tensor, Tensor]]] = {layer.name: [] for layer in layers}
    handles = [
        modules[layer.name].register_forward_hook(
            lambda _module, args, result, into=runs[layer.name]: into.append((args[0].detach(), result))
        )
        for layer in layers
    ]
    try:
        with evaluation(objective):
            parameters = {name: value.requires_grad_() for name, value in scope_parameters(objective, scope).items()}
            outputs = outputs_function(objective, scope)(parameters, batch)
    finally:
        for handle in handles:
            handle.remove()
    _check_runs(runs, batch_rows(batch))
    hessian_columns = objective.criterion.hessian_columns(outputs.detach(), batch)
    inputs = {
        layer.name: torch.cat([_positions(value, layer.bias) for value, _ in runs[layer.name]], dim=1)
        for layer in layers
    }
    results = [(name, result) for name, pairs in runs.items() for _, result in pairs]

    def columns() -> Iterator[dict[str, Tensor]]:
        for column in hessian_columns:
            found = torch.autograd.grad(
                outputs, [result for _, result in results], column, retain_graph=True, materialize_grads=True
            )
            parts: dict[str, list[Tensor]] = {}
            for (name, _), slope in zip(results, found, strict=True):
                parts.setdefault(name, []).append(_positions(slope, False))
            yield {name: torch.cat(slopes, dim=1) for name, slopes in parts.items()}

    return inputs, columns()


def _check_runs(runs: Mapping[str, Sequence[tuple[Tensor, Tensor]]], rows: int) -> None:
    """Require one sample per row: otherwise sums over a sample's positions look like sums over samples."""
    for name, pairs in runs.items():
        if not pairs:
            raise ScopeError(
                f"ekfac follows calls of linear layers, but {name!r} is never called; cg accepts any scope"
            )
        for value, _ in pairs:
            if value.ndim < 2 or value.shape[0] != rows:
                raise ScopeError(
                    f"ekfac needs the inputs of {name!r} as [samples, ..., features], got {tuple(value.shape)} "
                    f"for {rows} samples; cg accepts any scope"
                )


def _positions(value: Tensor, ones: bool) -> Tensor:
    """Flatten positions, [B, n, features (+ 1)] from [B, ..., features]."""
    flat = value.reshape(value.shape[0], -1, value.shape[-1])
    return torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1) if ones else flat


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    exact = value.to("cpu", torch.float64)
    sums[name] = sums[name] + exact if name in sums else exact
