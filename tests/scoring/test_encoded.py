from __future__ import annotations

import pytest
import torch

from scoring import encoded
from scoring.curvature import gauss_newton_product_sum
from scoring.gradients import per_sample_gradients
from scoring.objective import prepare_batches, reduce_to_scope
from scoring.sasrec import LOSSES
from scoring.scope import select_scope
from tests.scoring.cases import history_batches, sasrec

SCOPES = [
    "blocks.0.*",
    "blocks.1.*",
    "blocks.1.attention.*",
    "blocks.1.feed_forward.*",
    "final_norm.*",
    "position_embedding.*",
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("pattern", SCOPES)
def test_the_view_equals_the_model(loss: str, pattern: str) -> None:
    """In the loss, in every sample's gradient and in the Gauss-Newton product, prepared or not."""
    model = sasrec(loss).train()
    scope = select_scope(model, [pattern])
    view = reduce_to_scope(model, scope)
    x = torch.randn(scope.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = history_batches()
    expected = gauss_newton_product_sum(model, scope, x, plain)[0]
    for batches in (plain, prepare_batches(view, plain, False), prepare_batches(view, plain, True)):
        product = gauss_newton_product_sum(view, scope, x, batches)[0]
        torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(
            per_sample_gradients(view, scope, batches[0]),
            per_sample_gradients(model, scope, plain[0]),
            rtol=1e-9,
            atol=1e-11,
        )


def test_large_hessians_are_computed_again_rather_than_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "_KEPT_HESSIAN", 0)
    model = sasrec("softmax")
    scope = select_scope(model, [SCOPES[0]])
    view, plain = reduce_to_scope(model, scope), history_batches()
    prepared = prepare_batches(view, plain, True)
    assert [batch.hessian for batch in prepared] == [None] * len(plain)
    x = torch.randn(scope.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = gauss_newton_product_sum(view, scope, x, prepared)[0]
    torch.testing.assert_close(product, gauss_newton_product_sum(model, scope, x, plain)[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_closed_forms_equal_autograd_whatever_the_chunks(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "_GRADIENT_SCORES", 20)
    monkeypatch.setattr(encoded, "_HESSIAN_SCORES", 20)
    model = sasrec(loss).eval()
    view = reduce_to_scope(model, select_scope(model, ["blocks.1.*"]))
    batch = history_batches()[-1]
    outputs = view.outputs(batch).detach()
    slope = torch.func.grad(lambda e: view.criterion.loss(e, batch).sum())
    torch.testing.assert_close(view.criterion.gradient(outputs, batch), slope(outputs))
    tangent = torch.randn_like(outputs)
    expected = torch.func.jvp(slope, (outputs,), (tangent,))[1]
    torch.testing.assert_close(view.criterion.hessian_product(outputs, batch, tangent), expected)
    dense = view.criterion.hessian(outputs, batch)
    torch.testing.assert_close((dense @ tangent[:, :, None]).squeeze(-1), expected)
