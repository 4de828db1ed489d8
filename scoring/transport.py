"""Entropic optimal transport from train samples to a reference, with a bound on the mass of each train sample.

A coreset S of n samples that is close to the reference in transport distance puts a mass of 1/n on each sample of S
and none on the others. Relaxing "all or none" makes the coreset's weights the row sums of a plan P with
Σᵢ Pᵢⱼ = 1/R for each reference sample j and Σⱼ Pᵢⱼ ≤ 1/n for each train sample i. The plan minimises
Σ Pᵢⱼ (cᵢⱼ − bᵢ) − ε · entropy(P), where cᵢⱼ is the distance of embeddings and bᵢ the gain from taking sample i. The
scaling algorithm is that of Chizat, Peyré, Schmitzer and Vialard, "Scaling algorithms for unbalanced optimal transport
problems", Mathematics of Computation 87, 2018, with each row's scaling bounded by 1.

It is solved on a subset of train, where a row stands for many samples and its bound grows accordingly. The solution
is one potential per reference sample. With it, the mass of any other train sample is a sum over the reference alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_BLOCK = 256  # rows whose costs are held at once
_ITERATIONS = 500
TOLERANCE = 1e-3
#: Decimals kept of the potentials, since the last bits of their sums depend on the number of threads.
_DECIMALS = 6


@dataclass(frozen=True)
class Transport:
    """A solved plan, given by its potentials.

    Attributes
    ----------
    reference : embeddings, [R, d].
    potentials : ln of the scaling of each column, [R].
    cost_scale : mean distance on the subset, which is the unit of cost.
    epsilon : weight of the entropy, in that unit.
    log_bound : ln of the maximum mass of a row of the subset.
    residual : Σⱼ |Σᵢ Pᵢⱼ − 1/R| when the iterations stopped.
    iterations : number of iterations.
    """

    reference: Values
    potentials: Values
    cost_scale: float
    epsilon: float
    log_bound: float
    residual: float
    iterations: int

    def log_mass(self, embedding: npt.NDArray[np.float32], gain: Values) -> npt.NDArray[np.float32]:
        """Return ln of the mass that train samples may carry relative to the bound, at most 0, float32 [N].

        Parameters
        ----------
        embedding : [N, d].
        gain : bᵢ [N], in units of the mean cost.
        """
        parts = [
            log_sum(self._exponents(block, extra))[:rows]
            for block, extra, rows in _blocks(np.asarray(embedding, dtype=np.float64), gain)
        ]
        mass = np.concatenate(parts) if parts else np.empty(0)
        return np.minimum(mass - self.log_bound, 0.0).astype(np.float32)

    def _exponents(self, block: Values, gain: Values) -> Values:
        cost = distances(block, self.reference) / self.cost_scale
        return self.potentials + (gain[:, None] - cost) / self.epsilon


def solve_transport(
    embedding: npt.NDArray[np.float64], gain: Values, reference: npt.NDArray[np.float32], bound: float, epsilon: float
) -> Transport:
    """Iterate the scalings until the reference is served within 0.1%, at most 500 times.

    Parameters
    ----------
    embedding : embeddings of the subset, [M, d].
    gain : bᵢ [M], in units of the mean cost.
    reference : [R, d].
    bound : maximum mass of a row of the subset; at least 1/M, since the reference could not be served otherwise.
    epsilon : weight of the entropy, in units of the mean cost.

    Costs are recomputed in blocks of 256 rows, so memory is O((M + R) d + 256 R).
    """
    columns = np.asarray(reference, dtype=np.float64)
    share = 1.0 / len(columns)
    total = sum(float(distances(block, columns)[:rows].sum()) for block, _, rows in _blocks(embedding, gain))
    scale = total / (len(embedding) * len(columns)) or 1.0
    plan = Transport(columns, np.zeros(len(columns)), scale, epsilon, float(np.log(bound)), np.inf, 0)
    for iteration in range(1, _ITERATIONS + 1):
        served = np.zeros(len(columns))
        for block, extra, rows in _blocks(embedding, gain):
            exponents = plan._exponents(block, extra)[:rows]
            mass = log_sum(exponents)
            served += np.exp(exponents + (np.minimum(mass, plan.log_bound) - mass)[:, None]).sum(0)
        residual = float(np.abs(served - share).sum())
        if residual <= TOLERANCE:
            break
        potentials = plan.potentials + np.log(share / np.maximum(served, np.finfo(np.float64).tiny))
        plan = Transport(columns, potentials, scale, epsilon, plan.log_bound, residual, iteration)
    rounded = np.round(plan.potentials, _DECIMALS)
    return Transport(columns, rounded, scale, epsilon, plan.log_bound, residual, iteration)


def distances(rows: Values, columns: Values) -> Values:
    """Return the Euclidean distances [N, R] between rows [N, d] and columns [R, d]."""
    squares = (rows**2).sum(1)[:, None] + (columns**2).sum(1) - 2.0 * (rows @ columns.T)
    return np.sqrt(np.maximum(squares, 0.0))


def log_sum(exponents: Values) -> Values:
    """Return ln Σ exp over the columns, [N] from [N, R]."""
    highest: Values = exponents.max(1)
    return highest + np.log(np.exp(exponents - highest[:, None]).sum(1))


def _blocks(embedding: Values, gain: Values) -> Iterator[tuple[Values, Values, int]]:
    """Yield blocks of equal shape, padding the last one, with the number of rows that count.

    A matrix product may round differently for another shape. With a fixed shape, a row's result does not depend on
    the other rows.
    """
    for start in range(0, len(embedding), _BLOCK):
        rows = min(_BLOCK, len(embedding) - start)
        block, extra = np.zeros((_BLOCK, embedding.shape[1])), np.zeros(_BLOCK)
        block[:rows], extra[:rows] = embedding[start : start + rows], gain[start : start + rows]
        yield block, extra, rows
