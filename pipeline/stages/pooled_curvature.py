"""The curvature of the risk over samples that the actors of a pool hold, or read shard by shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from cluster.errors import UserError
from cluster.reduce import ReducePool
from pipeline.engine.config import InfluenceConfig
from pipeline.engine.sample_tables import SampleShard
from pipeline.stages.influence_passes import Array, Chunks
from scoring.curvature_draw import CurvatureCut, first_rows, likely_bound
from scoring.kronecker import KroneckerBasis, LayerSums
from scoring.ragged import concatenate
from scoring.solvers import Product


def pooled_curvature(
    section: InfluenceConfig, cut: CurvatureCut, pool: ReducePool, indices: Sequence[int], total: int
) -> PooledCurvature:
    """Return the curvature over the samples asked for, out of `total` in the shards `indices`, spread over the pool."""
    wanted = cut.size(section.curvature_samples, total, section.solver)
    if cut.over_shards(wanted, total):
        return PooledCurvature(pool, None, indices, total)
    chunks = curvature_chunks(wanted, cut, pool, total) if section.solver != "none" else []
    return PooledCurvature(pool, [ray.put(chunk) for chunk in chunks], range(len(chunks)), wanted)


def curvature_chunks(wanted: int, cut: CurvatureCut, pool: ReducePool, total: int) -> list[SampleShard]:
    """Return the samples that the curvature is taken over, in the order of their draw, cut into chunks.

    Each shard sends the samples below a bound, which are almost certainly more than enough. If they are not, every
    shard sends all of its samples.
    """
    parts = list(pool.map("curvature_rows", likely_bound(wanted, total)))
    if sum(len(keys) for keys, _ in parts) < wanted:
        parts = list(pool.map("curvature_rows", 1.0))
    order = first_rows(np.concatenate([keys for keys, _ in parts]), wanted)
    samples = SampleShard(
        np.concatenate([part.sample_id for _, part in parts]),
        concatenate([part.history for _, part in parts]),
        np.concatenate([part.target for _, part in parts]),
    )
    return [samples.take(rows) for rows in cut.chunks(order)]


class PooledCurvature:
    """`scoring.influence.Curvature` over the actors of a pool, added in the order of the chunks.

    Parameters
    ----------
    chunks : references to samples; None reads the shards.
    numbers : the places of the chunks, or the numbers of the shards.
    samples : the number of samples in all of them.

    Attributes
    ----------
    used : the number of samples with a finite loss and gradient, as counted by the last pass over all of them.
    """

    def __init__(self, pool: ReducePool, chunks: Chunks, numbers: Sequence[int], samples: int) -> None:
        self._pool = pool
        self._chunks = chunks
        self._numbers = numbers
        self.used = samples

    def product(self, x: Tensor) -> Tensor:
        product, self.used = mean_of(self._map("product", (self._chunks, x.numpy())))
        return product

    def step_products(self, steps: int) -> Iterator[Product]:
        for step in range(steps):
            yield partial(self._chunk_product, self._numbers[step % len(self._numbers)])

    def matrix(self) -> Tensor:
        matrix, self.used = mean_of(self._pool.map("matrix", self._chunks, self._numbers, ahead=1))
        return matrix

    def kronecker_factors(self) -> LayerSums:
        sums: LayerSums = reduce(add, self._map("kronecker_factors", self._chunks))
        self.used = sums.count
        return sums

    def kronecker_eigenvalues(self, basis: KroneckerBasis) -> LayerSums:
        return reduce(add, self._map("kronecker_eigenvalues", (self._chunks, basis)))

    def _map(self, method: str, argument: Any) -> Iterator[Any]:
        return self._pool.map(method, argument, self._numbers)

    def _chunk_product(self, chunk: int, x: Tensor) -> Tensor:
        return mean_of([self._pool.call("product", chunk, (self._chunks, x.numpy()))])[0]


def mean_of(parts: Iterable[tuple[Array, int]]) -> tuple[Tensor, int]:
    """Return the mean of float64 sums, added in order, and the number of samples.

    Raises `UserError` when there is none.
    """
    total: Tensor | None = None
    count = 0
    for part, rows in parts:
        total = torch.from_numpy(np.array(part)) if total is None else total + torch.from_numpy(np.array(part))
        count += rows
    if total is None or count == 0:
        raise UserError(
            "No sample has a finite gradient to score by.",
            "Take more of the log or another data.split if it has no train sample; else lower surrogate.lr and "
            "recompute by `dealrec run CONFIG --from surrogate`.",
        )
    return total / count, count
