from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from scoring.exceptions import NonFiniteError, ScopeError
from scoring.kronecker import (
    LayerSums,
    LinearLayer,
    eigenvalue_sums,
    kronecker_basis,
    kronecker_factor_sums,
    linear_layers,
)
from scoring.objective import prepare_batches, reduce_to_scope
from scoring.scope import select_scope
from scoring.surrogate import surrogate_scope
from tests.scoring.cases import CASES, Case, Rows, SquaredLoss, dense_gauss_newton, history_batches, samples, sasrec


def sasrec_case() -> Case:
    model = sasrec()
    scope = surrogate_scope(model, ("last_block",))
    return Case(reduce_to_scope(model, scope), scope, history_batches())


CASE_BUILDERS = [CASES["mlp-softmax"], CASES["mlp-squared"], sasrec_case]


@pytest.mark.parametrize("build", CASE_BUILDERS)
def test_eigenvalues_are_the_diagonal_of_the_curvature_in_the_basis(build: Any) -> None:
    case = build()
    objective, scope = case.objective, case.scope
    basis = kronecker_basis(kronecker_factor_sums(objective, scope, case.batches))
    sums = eigenvalue_sums(objective, scope, basis, case.batches)
    dense = dense_gauss_newton(case)
    for layer in linear_layers(objective, scope):
        outward, inward = basis.outputs[layer.name], basis.inputs[layer.name]
        found = sums.tensors[layer.name]
        for row in (0, len(outward) - 1):
            for column in (0, len(inward) - 1):
                parts = scope.unflatten(torch.zeros(scope.size, dtype=torch.float64))
                unit = outward[:, row, None] * inward[None, :, column]
                vector = scope.flatten(parts | layer.parameters(unit))
                torch.testing.assert_close(found[row, column], vector @ dense @ vector, rtol=1e-8, atol=1e-9)


def test_the_trace_is_kept() -> None:
    case = sasrec_case()
    basis = kronecker_basis(kronecker_factor_sums(case.objective, case.scope, case.batches))
    sums = eigenvalue_sums(case.objective, case.scope, basis, case.batches)
    total = sum(float(value.sum()) for value in sums.tensors.values())
    assert total == pytest.approx(float(dense_gauss_newton(case).trace()), rel=1e-9)


def test_batches_padding_and_preparation_change_nothing() -> None:
    case = sasrec_case()
    whole = kronecker_factor_sums(case.objective, case.scope, case.batches)
    padded = [
        batch._replace(history=torch.nn.functional.pad(batch.history, (0, 7 - batch.history.shape[1])))
        for batch in case.batches
    ]
    prepared = prepare_batches(case.objective, case.batches, curvature=True)
    for other in (samples(case.batches), padded, prepared):
        sums = LayerSums({}, 0)
        for batch in other:
            sums = sums + kronecker_factor_sums(case.objective, case.scope, [batch])
        assert sums.count == whole.count
        for name, value in whole.tensors.items():
            torch.testing.assert_close(sums.tensors[name], value, rtol=1e-9, atol=1e-10)


def test_padding_has_no_part_in_the_input_factor() -> None:
    """The bias makes every counted position add 1 to the last entry."""
    case = sasrec_case()
    sums = kronecker_factor_sums(case.objective, case.scope, case.batches)
    positions = sum(int(batch.lengths.sum()) for batch in case.batches)
    assert sums.tensors["blocks.1.attention.value/inputs"][-1, -1] == positions
    assert sums.tensors["blocks.1.feed_forward.inner/inputs"][-1, -1] == sums.count


def test_layers_and_their_matrices() -> None:
    case = CASES["mlp-squared"]()
    layers = linear_layers(case.objective, case.scope)
    assert layers == (LinearLayer("layers.0", True), LinearLayer("layers.2", True))
    values = case.scope.unflatten(torch.arange(case.scope.size, dtype=torch.float64))
    parts = layers[0].parameters(layers[0].matrix(values))
    assert all(torch.equal(parts[name], values[name]) for name in parts)
    weight_only = select_scope(case.objective, ["layers.0.weight"])
    assert linear_layers(case.objective, weight_only) == (LinearLayer("layers.0", False),)


@pytest.mark.parametrize("pattern", ["final_norm.*", "item_embedding.*", "blocks.0.attention.query.bias"])
def test_only_linear_layers_with_their_weight(pattern: str) -> None:
    model = sasrec()
    with pytest.raises(ScopeError, match="linear layers"):
        linear_layers(model, select_scope(model, [pattern]))


class Spoilt(nn.Module):
    """Treats samples [B, 3, 2] as positions of a layer, or bypasses its call."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, dtype=torch.float64)
        self.called = called
        self.criterion = SquaredLoss()

    def outputs(self, batch: Rows) -> torch.Tensor:
        rows = batch.features.reshape(-1, 2)
        turned = self.layer(rows) if self.called else rows @ self.layer.weight.T
        return turned.reshape(len(batch.features), 3, 2).sum(1)


@pytest.mark.parametrize(("called", "words"), [(True, r"\(6, 2\) for 2 samples"), (False, "never called")])
def test_layers_that_do_not_see_a_sample_a_row_are_refused(called: bool, words: str) -> None:
    model = Spoilt(called)
    batch = Rows(torch.ones(2, 3, 2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ScopeError, match=words):
        kronecker_factor_sums(model, select_scope(model, ["layer.weight"]), [batch])


def test_a_factor_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="layer/inputs"):
        kronecker_basis(LayerSums({"layer/inputs": torch.full((2, 2), float("nan"))}, 1))
