from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoring.row_products import row_products


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 1), st.integers(0, 99))
def test_they_are_the_products_of_each_sample(samples: int, width: int, many: int, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(samples, width, width, dtype=torch.float64, generator=generator)
    vectors = torch.randn(many, samples, width, dtype=torch.float64, generator=generator)
    expected = torch.stack([torch.einsum("bij,bj->bi", matrices, row) for row in vectors])
    torch.testing.assert_close(row_products(matrices, vectors[0]), expected[0])
    stacked = vectors.movedim(0, dim)
    found = torch.func.vmap(lambda row: row_products(matrices, row), in_dims=dim)(stacked)
    torch.testing.assert_close(found, expected)


def test_they_are_not_mapped_over_matrices() -> None:
    matrices, vectors = torch.eye(2).expand(3, 4, 2, 2), torch.ones(4, 2)
    with pytest.raises(NotImplementedError, match="only be mapped over the vectors"):
        torch.func.vmap(row_products, in_dims=(0, None))(matrices, vectors)
