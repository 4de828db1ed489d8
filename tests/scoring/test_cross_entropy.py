from __future__ import annotations

import pytest
import torch

from scoring.cross_entropy import catalogue_cross_entropy


@pytest.mark.parametrize("at_once", [1, 40, 1 << 20])
def test_value_and_gradients_are_those_of_cross_entropy(at_once: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(13, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 9, (13,))
    plain = torch.nn.functional.cross_entropy(hidden @ weight.T, target, reduction="sum")
    expected = torch.autograd.grad(3 * plain, (hidden, weight))
    chunked = catalogue_cross_entropy(hidden, weight, target, at_once)
    found = torch.autograd.grad(3 * chunked, (hidden, weight))
    torch.testing.assert_close(chunked, plain)
    torch.testing.assert_close(found, expected)


def test_scores_too_large_for_a_plain_exponential() -> None:
    hidden = torch.full((2, 1), 500.0, requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    loss = catalogue_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1000)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_no_gradient_is_kept_without_one_asked() -> None:
    loss = catalogue_cross_entropy(torch.randn(3, 2), torch.randn(4, 2), torch.tensor([0, 1, 2]))
    assert not loss.requires_grad
