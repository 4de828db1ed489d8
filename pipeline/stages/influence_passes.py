"""What runs inside the actors of the influence: sums over shards or chunks for the solve, then the scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch
from torch import Tensor

from cluster.broadcast import Broadcast
from cluster.storage import Storage
from pipeline.engine.sample_tables import SampleShard, read_samples, score_table
from pipeline.stages.surrogate_source import SurrogateSource, one_thread, read_validation
from scoring.curvature import gauss_newton_matrix_sum, gauss_newton_product_sum
from scoring.curvature_draw import Keys, curvature_keys, rows_below
from scoring.gradients import finite_batches, influence_scores, mean_loss_gradient_sum
from scoring.kronecker import KroneckerBasis, LayerSums, eigenvalue_sums, kronecker_factor_sums
from scoring.objective import batch_rows, prepare_batches
from scoring.reference import ReferenceShard

Array = npt.NDArray[np.generic]

#: A reference a chunk; None where the chunks are the shards themselves.
Chunks = Sequence[ray.ObjectRef] | None


class ReferenceSource(Protocol):
    """Samples of a reference period by shard."""

    def read(self, index: int) -> ReferenceShard: ...


@dataclass(frozen=True)
class Risk:
    """The risk whose change influence estimates: the mean loss of some samples.

    Attributes
    ----------
    target : the train samples, every target of the validation rows, or the samples of a reference period.
    period : the reference period; None for the other targets.
    """

    target: Literal["train", "valid", "reference"]
    period: ReferenceSource | None = None

    def samples(self, data: Storage, index: int) -> SampleShard:
        """Return the samples of the risk in shard `index`."""
        if self.period is not None:
            part = self.period.read(index)
            return SampleShard(part.sample_id, part.history(), part.target)
        return read_samples(data, index) if self.target == "train" else read_validation(data, index)


class SumWorker:
    """Additive float64 sums: the gradient of the risk over shards, the curvature over chunks of a subset.

    The chunks come with each call, as references, and stay prepared between calls. Where there are none, curvature
    goes over the shards, which are read again at each call, so memory does not grow with the log.
    """

    def __init__(self, source: SurrogateSource, data: Storage) -> None:
        one_thread()
        self._source = source
        self._data = data
        self._objective, self._scope = source.build()
        self._prepared: dict[int, list[Any]] = {}
        self._all_finite: set[int] = set()

    def risk_gradient(self, index: int, risk: Risk) -> tuple[Array, int]:
        """Return Σ∇ℓ(s) over the risk's samples of shard `index`, float64 [P], and their number."""
        batches = (batch for _, batch in self._source.batches(risk.samples(self._data, index)))
        total, count = mean_loss_gradient_sum(self._objective, self._scope, batches)
        return total.numpy(), count

    def curvature_rows(self, index: int, bound: float) -> tuple[Keys, SampleShard]:
        """Return the samples whose draw key, as a share of its range, is at most `bound`, and their keys."""
        samples = read_samples(self._data, index)
        keys = curvature_keys(samples.sample_id)
        rows = rows_below(keys, bound)
        return keys[rows], samples.take(rows)

    def product(self, index: int, argument: tuple[Chunks, Array]) -> tuple[Array, int]:
        """Return ΣJᵀ∇²ℓJx over chunk `index`, float64 [P], and its samples."""
        chunks, x = argument
        batches = self._batches(chunks, index)
        total, count = gauss_newton_product_sum(self._objective, self._scope, torch.from_numpy(np.array(x)), batches)
        return total.numpy(), count

    def matrix(self, index: int, chunks: Chunks) -> tuple[Array, int]:
        """Return ΣJᵀ∇²ℓJ over chunk `index`, float64 [P, P], and its samples."""
        total, count = gauss_newton_matrix_sum(self._objective, self._scope, self._batches(chunks, index))
        return total.numpy(), count

    def kronecker_factors(self, index: int, chunks: Chunks) -> LayerSums:
        return kronecker_factor_sums(self._objective, self._scope, self._batches(chunks, index))

    def kronecker_eigenvalues(self, index: int, argument: tuple[Chunks, KroneckerBasis]) -> LayerSums:
        chunks, basis = argument
        return eigenvalue_sums(self._objective, self._scope, basis, self._batches(chunks, index))

    def _batches(self, chunks: Chunks, index: int) -> Iterable[Any]:
        if chunks is None:
            return self._shard_batches(index)
        if index not in self._prepared:
            samples: SampleShard = ray.get(chunks[index])
            batches = (batch for _, batch in self._source.batches(samples))
            finite = finite_batches(self._objective, self._scope, batches)
            self._prepared[index] = prepare_batches(self._objective, finite, curvature=True)
        return self._prepared[index]

    def _shard_batches(self, index: int) -> Iterator[Any]:
        """Yield a shard's batches without the samples whose gradient is not finite, if there are any."""
        samples = read_samples(self._data, index)
        batches = (batch for _, batch in self._source.batches(samples))
        if index in self._all_finite:
            yield from batches
            return
        rows = 0
        for batch in finite_batches(self._objective, self._scope, batches):
            rows += batch_rows(batch)
            yield batch
        if rows == len(samples):
            self._all_finite.add(index)


class InfluenceWorker:
    """Scores shards: I(s) = ⟨∇ℓ(s), h⟩ by forward mode, a batch at a time."""

    def __init__(self, source: SurrogateSource, direction: Broadcast, data: Storage) -> None:
        one_thread()
        self._source = source
        self._data = data
        self._objective, self._scope = source.build()
        self._direction: Tensor = torch.from_numpy(np.array(direction.get()["direction"]))

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        samples = read_samples(self._data, index)
        scores = np.empty(len(samples), dtype=np.float32)
        for rows, batch in self._source.batches(samples):
            scores[rows] = influence_scores(self._objective, self._scope, self._direction, batch)
        finite = np.isfinite(scores)
        facts = {
            "sum": float(scores[finite].sum(dtype=np.float64)),
            "squares": float(np.square(scores[finite], dtype=np.float64).sum()),
            "nonfinite": int((~finite).sum()),
        }
        return score_table(samples.sample_id, "influence", scores, np.zeros(len(samples), dtype=np.bool_)), facts
