from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scoring.losses import BinaryLoss, OutputLoss, SoftmaxLoss, square_root_columns
from tests.scoring.cases import Rows, SquaredLoss, label_column

LABELS = torch.tensor([0, 2, 1])
BATCH = Rows(torch.zeros(3, 1), LABELS)
VALUES = Rows(torch.zeros(3, 1), torch.ones(3, 4, dtype=torch.float64))
LOSSES = [(SoftmaxLoss(label_column), BATCH), (BinaryLoss(), BATCH), (SquaredLoss(), VALUES)]


def outputs() -> Tensor:
    return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("loss", "batch"), LOSSES)
def test_closed_forms_equal_autograd(loss: OutputLoss, batch: Any) -> None:
    z = outputs()
    tangent = torch.randn_like(z)
    slope = torch.func.grad(lambda value: loss.loss(value, batch).sum())
    torch.testing.assert_close(loss.gradient(z, batch), slope(z), rtol=1e-12, atol=1e-14)
    expected = torch.func.jvp(slope, (z,), (tangent,))[1]
    torch.testing.assert_close(loss.hessian_product(z, batch, tangent), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("loss", "batch"), LOSSES)
def test_columns_compose_the_hessian(loss: OutputLoss, batch: Any) -> None:
    z = outputs()
    columns = loss.hessian_columns(z, batch)
    tangent = torch.randn_like(z)
    product = torch.einsum("kbi,kbj,bj->bi", columns, columns, tangent)
    torch.testing.assert_close(product, loss.hessian_product(z, batch, tangent), rtol=1e-10, atol=1e-12)


def test_softmax_is_the_cross_entropy() -> None:
    z = outputs()
    expected = torch.nn.functional.cross_entropy(z, LABELS, reduction="none")
    torch.testing.assert_close(SoftmaxLoss(label_column).loss(z, BATCH), expected)


@pytest.mark.parametrize("loss", [SoftmaxLoss(lambda batch: torch.zeros(3, dtype=torch.long)), BinaryLoss()])
def test_a_column_at_minus_infinity_is_no_candidate(loss: OutputLoss) -> None:
    z = outputs()
    masked = z.clone()
    masked[:, 2] = -torch.inf
    kept = z[:, [0, 1, 3]]
    torch.testing.assert_close(loss.loss(masked, BATCH), loss.loss(kept, BATCH))
    torch.testing.assert_close(loss.gradient(masked, BATCH)[:, [0, 1, 3]], loss.gradient(kept, BATCH))
    tangent = torch.ones_like(z)
    product = loss.hessian_product(masked, BATCH, tangent)
    assert (product[:, 2] == 0).all()
    assert torch.isfinite(product).all()


def test_root_of_a_singular_matrix() -> None:
    vector = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    columns = square_root_columns(vector[:, :, None] * vector[:, None, :])
    torch.testing.assert_close(torch.einsum("kbi,kbj->bij", columns, columns), vector[:, :, None] * vector[:, None, :])
