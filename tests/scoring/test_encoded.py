from __future__ import annotations

import numpy as np
import pytest
import torch

from scoring.batching import collate
from scoring.curvature import gauss_newton_product_sum
from scoring.encoded import EncodedLimits, EncodedObjective
from scoring.gradients import per_sample_gradients
from scoring.objective import prepare_batches, reduce_to_scope
from scoring.sasrec import LOSSES
from scoring.scope import select_scope
from scoring.surrogate import build_surrogate
from tests.scoring.cases import LargestTensor, histories, history_batches, sasrec

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


def test_large_hessians_are_computed_again_rather_than_kept() -> None:
    model = sasrec("softmax")
    scope = select_scope(model, [SCOPES[0]])
    view, plain = model.reduced(scope.names, EncodedLimits(kept_hessian=0)), history_batches()
    assert view is not None
    prepared = prepare_batches(view, plain, True)
    assert [batch.hessian for batch in prepared] == [None] * len(plain)
    x = torch.randn(scope.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = gauss_newton_product_sum(view, scope, x, prepared)[0]
    torch.testing.assert_close(product, gauss_newton_product_sum(model, scope, x, plain)[0], rtol=1e-9, atol=1e-10)


def test_many_products_at_once_respect_the_catalogue_behind_the_encoded_history() -> None:
    model = build_surrogate("sasrec", 2000, {"hidden": 8, "max_history": 7}).eval()
    scope = select_scope(model, ["final_norm.*"])
    view, batch = reduce_to_scope(model, scope), collate(*histories(30), np.arange(30))
    x = torch.randn(32, scope.size, generator=torch.Generator().manual_seed(0))
    expected = gauss_newton_product_sum(view, scope, x, [batch])[0]
    scores = len(batch.target) * 2000
    with LargestTensor() as largest:
        found = gauss_newton_product_sum(view, scope, x, [batch], outputs_at_once=2 * scores)[0]
    torch.testing.assert_close(found, expected)
    assert largest.numbers <= 2 * scores


@pytest.mark.parametrize("loss", LOSSES)
def test_closed_forms_equal_autograd_whatever_the_chunks(loss: str) -> None:
    model = sasrec(loss).eval()
    view = model.reduced(
        select_scope(model, ["blocks.1.*"]).names, EncodedLimits(gradient_scores=20, hessian_scores=20)
    )
    assert isinstance(view, EncodedObjective)
    batch = history_batches()[-1]
    outputs = view.outputs(batch).detach()
    slope = torch.func.grad(lambda e: view.criterion.loss(e, batch).sum())
    torch.testing.assert_close(view.criterion.gradient(outputs, batch), slope(outputs))
    tangent = torch.randn_like(outputs)
    expected = torch.func.jvp(slope, (outputs,), (tangent,))[1]
    torch.testing.assert_close(view.criterion.hessian_product(outputs, batch, tangent), expected)
    dense = view.criterion.hessian(outputs, batch)
    torch.testing.assert_close((dense @ tangent[:, :, None]).squeeze(-1), expected)
