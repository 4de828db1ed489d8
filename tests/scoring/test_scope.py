from __future__ import annotations

import pytest
import torch
from torch import nn

from scoring.exceptions import ScopeError
from scoring.scope import select_scope


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))


def test_patterns_select_in_the_order_of_the_model() -> None:
    scope = select_scope(model(), ["1.*", "0.weight"])
    assert scope.names == ("0.weight", "1.weight")
    assert scope.size == 9
    assert scope.offsets == (0, 6, 9)
    assert scope.span("1.weight") == slice(6, 9)
    assert select_scope(model(), ["*"]).names == ("0.weight", "0.bias", "1.weight")
    assert select_scope(model(), [r"re:\d\.bias"]).names == ("0.bias",)


@pytest.mark.parametrize("pattern", ["blocks.*", "re:0"])
def test_a_pattern_without_a_match_lists_what_there_is(pattern: str) -> None:
    with pytest.raises(ScopeError, match=r"0\.weight, 0\.bias, 1\.weight"):
        select_scope(model(), ["0.*", pattern])


@pytest.mark.parametrize("patterns", [[], ["re:("]])
def test_bad_patterns_are_refused(patterns: list[str]) -> None:
    with pytest.raises(ScopeError):
        select_scope(model(), patterns)


def test_frozen_parameters_belong_to_no_scope() -> None:
    network = model()
    names = select_scope(network, ["*"]).names
    frozen = names[0]
    dict(network.named_parameters())[frozen].requires_grad_(False)
    assert select_scope(network, ["*"]).names == names[1:]
    with pytest.raises(ScopeError, match="only frozen parameters match"):
        select_scope(network, [frozen])


def test_flatten_and_unflatten_are_inverse() -> None:
    scope = select_scope(model(), ["*"])
    vector = torch.arange(12, dtype=torch.float64)
    parts = scope.unflatten(vector)
    assert [tuple(part.shape) for part in parts.values()] == [(3, 2), (3,), (1, 3)]
    assert torch.equal(scope.flatten(parts), vector)
    rows = torch.stack([vector, 2 * vector])
    assert torch.equal(scope.flatten_rows(scope.unflatten(rows)), rows)
    assert scope.unflatten(vector, torch.float32)["0.bias"].dtype == torch.float32


def test_a_vector_of_another_size_is_refused() -> None:
    with pytest.raises(ScopeError, match="does not fit a scope of 12"):
        select_scope(model(), ["*"]).unflatten(torch.zeros(8))
