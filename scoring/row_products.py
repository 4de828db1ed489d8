"""A matrix for each sample times a vector for each sample, for one vector or many at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def row_products(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Mₛxₛ for every sample s, [B, d] from [B, d, d] and [B, d]; not differentiable.

    Under `torch.func.vmap` over the vectors, each matrix meets all its vectors in one product. The rule that vmap has
    for a product of its own repeats the matrices for every vector, which is 30 times slower with 32 of them.
    """
    products: Tensor = _RowProducts.apply(matrices, vectors)
    return products


class _RowProducts(torch.autograd.Function):
    @staticmethod
    def forward(matrices: Tensor, vectors: Tensor) -> Tensor:
        return torch.bmm(matrices, vectors[..., None]).squeeze(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: there is no backward."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None], matrices: Tensor, vectors: Tensor
    ) -> tuple[Tensor, int]:
        if in_dims[0] is not None or in_dims[1] is None:
            raise NotImplementedError("row products are mapped over the vectors alone")
        return torch.bmm(matrices, vectors.movedim(in_dims[1], -1)), 2
