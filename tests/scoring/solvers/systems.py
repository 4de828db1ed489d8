"""Positive semi-definite systems for the solvers."""

from __future__ import annotations

import torch
from torch import Tensor


def system(size: int = 12, rank: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a matrix with eigenvalues spread over three decades, and a vector."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    values = torch.logspace(-2, 1, size, dtype=torch.float64)
    values[: size - rank] = 0
    matrix = basis @ torch.diag(values) @ basis.T
    return (matrix + matrix.T) / 2, torch.randn(size, dtype=torch.float64, generator=generator)


def solution(matrix: Tensor, v: Tensor, damping: float) -> Tensor:
    result: Tensor = torch.linalg.solve(matrix + damping * torch.eye(len(v), dtype=v.dtype), v)
    return result
