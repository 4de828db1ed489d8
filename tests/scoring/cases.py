"""Small float64 problems on which every derivative is tested, with dense references by plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scoring.batching import HistoryBatch, collate, length_buckets
from scoring.losses import OutputLoss, SoftmaxLoss
from scoring.objective import reduce_to_scope
from scoring.ragged import Ragged
from scoring.sasrec import SASRec, SASRecConfig
from scoring.scope import Scope, select_scope


class Rows(NamedTuple):
    """Regression or classification data: features [B, F] and labels [B] or [B, C]."""

    features: Tensor
    labels: Tensor


class SquaredLoss(OutputLoss):
    """½‖z − y‖², with the base class's default derivatives."""

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return (outputs - batch.labels).square().sum(-1) / 2


class Network(nn.Module):
    """Layers and a loss of their outputs: the minimum that satisfies `Differentiable`."""

    def __init__(self, layers: nn.Module, criterion: OutputLoss) -> None:
        super().__init__()
        self.layers = layers
        self.criterion = criterion

    def outputs(self, batch: Rows) -> Tensor:
        result: Tensor = self.layers(batch.features)
        return result


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements that any operation inside produced at once."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in tree_leaves(result):
            if isinstance(part, torch.Tensor):
                self.numbers = max(self.numbers, part.numel())
        return result


@dataclass(frozen=True)
class Case:
    """An objective, one of its scopes, and some batches."""

    objective: Any
    scope: Scope
    batches: list[Any]


def sasrec(loss: str = "softmax", seed: int = 0, items: int = 11, **settings: Any) -> SASRec:
    """Return a float64 SASRec with random weights, large enough that no derivative vanishes."""
    config = {"max_history": 7, "hidden": 4, "negatives": 6, "dropout": 0.5, **settings}
    model = SASRec(SASRecConfig(item_count=items, loss=loss, seed=seed, **config), torch.arange(items)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def histories(count: int, items: int = 11, longest: int = 7, seed: int = 0) -> tuple[Ragged, np.ndarray[Any, Any]]:
    """Return random histories of 1 to `longest` items, and their targets."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, items + 1, size=rng.integers(1, longest + 1)) for _ in range(count)]
    return Ragged.from_rows(rows), rng.integers(1, items + 1, size=count)


def history_batches(count: int = 9, seed: int = 0, max_tokens: int = 16) -> list[HistoryBatch]:
    rows, target = histories(count, seed=seed)
    return [collate(rows, target, chosen) for chosen in length_buckets(rows.lengths, max_tokens, 16)]


def _sasrec_case(loss: str, patterns: tuple[str, ...], reduced: bool) -> Case:
    model = sasrec(loss)
    scope = select_scope(model, patterns)
    return Case(reduce_to_scope(model, scope) if reduced else model, scope, history_batches())


def _network_case(build: Callable[[], Network], patterns: tuple[str, ...], labels: Tensor) -> Case:
    torch.manual_seed(1)
    model = build().double()
    features = torch.randn(len(labels), 3, dtype=torch.float64)
    batches = [Rows(features[:4], labels[:4]), Rows(features[4:], labels[4:])]
    return Case(model, select_scope(model, patterns), batches)


_CLASSES = torch.tensor([0, 3, 1, 2, 2, 0, 1])
_VALUES = torch.linspace(-1, 1, 14, dtype=torch.float64).reshape(7, 2)


def _mlp(criterion: OutputLoss, outputs: int) -> Network:
    return Network(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)), criterion)


def label_column(batch: Rows) -> Tensor:
    return batch.labels


CASES: dict[str, Callable[[], Case]] = {
    "linear-softmax": lambda: _network_case(
        lambda: Network(nn.Linear(3, 4), SoftmaxLoss(label_column)), ("*",), _CLASSES
    ),
    "mlp-softmax": lambda: _network_case(lambda: _mlp(SoftmaxLoss(label_column), 4), ("*",), _CLASSES),
    "mlp-squared": lambda: _network_case(lambda: _mlp(SquaredLoss(), 2), ("*",), _VALUES),
    "mlp-last-layer": lambda: _network_case(lambda: _mlp(SoftmaxLoss(label_column), 4), ("layers.2.*",), _CLASSES),
    "sasrec-softmax": lambda: _sasrec_case("softmax", ("blocks.1.*",), False),
    "sasrec-softmax-reduced": lambda: _sasrec_case("softmax", ("blocks.1.*",), True),
    "sasrec-sampled-reduced": lambda: _sasrec_case("sampled", ("blocks.1.feed_forward.*",), True),
    "sasrec-bce-reduced": lambda: _sasrec_case("bce", ("blocks.0.attention.value.*", "final_norm.*"), True),
    "sasrec-sampled": lambda: _sasrec_case("sampled", ("blocks.0.feed_forward.*",), False),
    "sasrec-bce": lambda: _sasrec_case("bce", ("blocks.1.attention.*",), False),
    "sasrec-embeddings": lambda: _sasrec_case("softmax", ("*_embedding.weight",), True),
    "sasrec-positions": lambda: _sasrec_case("softmax", ("position_embedding.weight",), True),
}


def samples(batches: list[Any]) -> list[Any]:
    """Return every sample as a batch of one, cut to its own length if it has one."""
    found = []
    for batch in batches:
        for row in range(len(batch[0])):
            parts = [None if part is None else part[row : row + 1] for part in batch]
            if isinstance(batch, HistoryBatch):
                parts[0] = batch.history[row : row + 1, : int(batch.lengths[row])]
            found.append(type(batch)(*parts))
    return found


def loop_gradients(case: Case) -> Tensor:
    """Return the gradient of each sample by its own autograd call, [N, P]."""
    module = case.objective if isinstance(case.objective, nn.Module) else case.objective.module
    module.eval()
    named = dict(module.named_parameters())
    scoped = [named[name] for name in case.scope.names]
    rows = []
    for sample in samples(case.batches):
        loss = case.objective.criterion.loss(case.objective.outputs(sample), sample).sum()
        found = torch.autograd.grad(loss, scoped, materialize_grads=True)
        rows.append(torch.cat([value.reshape(-1) for value in found]))
    return torch.stack(rows)


def dense_gauss_newton(case: Case) -> Tensor:
    """Return Σ over samples of Jᵀ∇²ℓ(z)J, [P, P], with all three factors by autograd."""
    module = case.objective if isinstance(case.objective, nn.Module) else case.objective.module
    module.eval()
    named = dict(module.named_parameters())
    scoped = [named[name] for name in case.scope.names]
    total = torch.zeros(case.scope.size, case.scope.size, dtype=torch.float64)
    for sample in samples(case.batches):
        outputs = case.objective.outputs(sample)[0]
        rows = [
            torch.autograd.grad(output, scoped, retain_graph=True, materialize_grads=True)
            for output in outputs
            if torch.isfinite(output)
        ]
        jacobian = torch.stack([torch.cat([value.reshape(-1) for value in row]) for row in rows])
        finite = torch.isfinite(outputs)
        hessian = _output_hessian(case.objective.criterion, outputs.detach(), sample, finite)
        total += jacobian.T @ hessian @ jacobian
    return total


def _output_hessian(criterion: OutputLoss, outputs: Tensor, sample: Any, finite: Tensor) -> Tensor:
    def loss(values: Tensor) -> Tensor:
        return criterion.loss(outputs.masked_scatter(finite, values)[None], sample).sum()

    result: Tensor = torch.autograd.functional.hessian(loss, outputs[finite])
    return result
