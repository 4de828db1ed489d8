from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scoring.batching import HistoryBatch
from scoring.head import CatalogueHead, Head, SampledHead

TARGET = torch.tensor([2, 5, 1])
BATCH = HistoryBatch(TARGET[:, None], torch.ones(3, dtype=torch.long), TARGET)
SAMPLED = SampledHead(torch.tensor([1, 2, 2, 6]), torch.tensor([0.1, 0.2, 0.2, 0.3], dtype=torch.float64))


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 4, dtype=torch.float64, generator=generator),
        torch.randn(7, 4, dtype=torch.float64, generator=generator),
    )


@pytest.mark.parametrize("head", [CatalogueHead(), SAMPLED])
def test_pullback_and_gram_are_those_of_the_map(head: Head) -> None:
    encoded, weight = problem()
    outputs = head(encoded, weight, BATCH)
    rows = torch.func.vmap(
        lambda e, t: torch.func.jacrev(lambda x: head(x[None], weight, BATCH._replace(target=t[None]))[0])(e)
    )(encoded, TARGET)
    cotangent = torch.randn_like(outputs).masked_fill(outputs == -torch.inf, 0)
    torch.testing.assert_close(head.pullback(cotangent, weight, BATCH), torch.einsum("bc,bcd->bd", cotangent, rows))
    torch.testing.assert_close(
        head.gram(cotangent, weight, BATCH), torch.einsum("bc,bcd,bce->bde", cotangent, rows, rows)
    )


def test_the_catalogue_has_a_column_for_each_item() -> None:
    encoded, weight = problem()
    head = CatalogueHead()
    outputs = head(encoded, weight, BATCH)
    at_target = outputs.gather(1, head.target_column(BATCH)[:, None]).squeeze(1)
    torch.testing.assert_close(at_target, (encoded * weight[TARGET]).sum(-1))
    assert outputs.shape == (3, 6)


def test_a_negative_that_is_the_target_is_left_out() -> None:
    encoded, weight = problem()
    outputs = SAMPLED(encoded, weight, BATCH)
    assert (outputs == -torch.inf).tolist() == [
        [False, False, True, True, False],
        [False] * 5,
        [False, True, False, False, False],
    ]
    torch.testing.assert_close(outputs[:, 0], (encoded * weight[TARGET]).sum(-1))
