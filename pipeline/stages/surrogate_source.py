"""What runs inside the actors of stage influence: a surrogate on broadcast weights, passes over shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch
from torch import Tensor

from cluster.broadcast import Broadcast
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.sample_tables import SampleShard, ragged_column, read_samples, score_table
from scoring.batching import HistoryBatch, collate, length_buckets
from scoring.curvature import gauss_newton_matrix_sum, gauss_newton_product_sum
from scoring.gradients import finite_batches, mean_loss_gradient_sum
from scoring.ids import draw_order
from scoring.influence import influence_scores
from scoring.kronecker import KroneckerBasis, LayerSums, eigenvalue_sums, kronecker_factor_sums
from scoring.objective import Differentiable, batch_rows, prepare_batches, reduce_to_scope
from scoring.reference import ReferenceShard
from scoring.scope import Scope
from scoring.surrogate import Surrogate, build_surrogate, surrogate_scope

#: Histories times length in a batch, padding included.
_BATCH_TOKENS = 8192
#: Rows times outputs in a batch: 64 MiB in float32.
BATCH_OUTPUTS = 1 << 24

Array = npt.NDArray[np.generic]


class ReferenceSource(Protocol):
    """Samples of a reference period by shard."""

    def read(self, index: int) -> ReferenceShard: ...


class Weights(Protocol):
    """A model's weights by name, wherever they are kept."""

    def get(self) -> dict[str, npt.NDArray[np.generic]]: ...


@dataclass(frozen=True)
class SurrogateSource:
    """Everything an actor needs to build the trained surrogate and the scope.

    Attributes
    ----------
    name, config : of `build_surrogate`; the config holds `item_count`.
    weights : the state, broadcast or saved; `direction` joins a broadcast one for the scoring pass.
    patterns : of the scope; None is the surrogate's own default.
    outputs : numbers that the loss of a sample is a function of; they bound the rows of a batch.
    """

    name: str
    config: Mapping[str, Any]
    weights: Weights
    patterns: Sequence[str] | None
    outputs: int

    def build_model(self) -> Surrogate:
        """The surrogate in evaluation mode."""
        model = build_surrogate(self.name, int(self.config["item_count"]), self.config)
        state = {key: torch.from_numpy(np.array(value)) for key, value in self.weights.get().items()}
        model.load_state_dict(state)
        return model.eval()

    def build(self) -> tuple[Differentiable, Scope]:
        """The objective over the scope, and the scope."""
        model = self.build_model()
        scope = surrogate_scope(model, self.patterns)
        return reduce_to_scope(model, scope), scope

    def batches(self, samples: SampleShard) -> Iterator[tuple[npt.NDArray[np.int64], HistoryBatch]]:
        """Rows and their batch, histories of similar length together."""
        max_rows = max(1, BATCH_OUTPUTS // self.outputs)
        history = samples.history.tail(int(self.config["max_history"]))
        for rows in length_buckets(history.lengths, _BATCH_TOKENS, max_rows):
            yield rows, collate(history, samples.target, rows)


#: The curvature's draw is of its own, so that it is independent of the coreset's.
CURVATURE_SEED = 0x43555256

#: A shard takes a tenth of a second.
SHARDS_AT_ONCE = 8

#: Curvature samples of one chunk at most; the chunks are the same whatever the shards and the workers are.
CURVATURE_CHUNK = 1024

#: Curvature samples that are kept in memory, prepared, between the steps of a solver.
PREPARED_SAMPLES = 1 << 16

#: A reference a chunk; None where the chunks are the shards themselves.
Chunks = Sequence[ray.ObjectRef] | None


def curvature_cuts(rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Rows cut into chunks of equal size, one more or less, since each has the same weight in the steps of `lissa`."""
    return np.array_split(rows, max(1, -(-len(rows) // CURVATURE_CHUNK)))


def one_thread() -> None:
    """In a worker: the workers fill the cores, and a sum's order does not change with the machine."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def on_one_thread() -> Iterator[None]:
    """On the driver, for the same reason, over a block: what it does beside goes on as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SumWorker:
    """Additive float64 sums: the gradient of the risk over shards, the curvature over chunks of a subset.

    The chunks come with each call, as references, and stay prepared between calls. Curvature over more samples than
    `PREPARED_SAMPLES` goes over the shards instead, read again at each call, so memory does not grow with the log.
    """

    def __init__(self, source: SurrogateSource, data: Storage) -> None:
        one_thread()
        self._source = source
        self._data = data
        self._objective, self._scope = source.build()
        self._prepared: dict[int, list[Any]] = {}
        self._all_finite: set[int] = set()

    def train_gradient(self, index: int, argument: None) -> tuple[Array, int]:
        """Σ∇ℓ(s) over the samples of shard `index`, float64 [P], and their number."""
        return self._gradient(read_samples(self._data, index))

    def valid_gradient(self, index: int, argument: None) -> tuple[Array, int]:
        """The same over every target of the validation rows."""
        return self._gradient(read_validation(self._data, index))

    def reference_gradient(self, index: int, period: ReferenceSource) -> tuple[Array, int]:
        """The same over the reference samples of the shard."""
        part = period.read(index)
        return self._gradient(SampleShard(part.sample_id, part.history(), part.target))

    def curvature_rows(self, index: int, bound: float) -> tuple[Array, SampleShard]:
        """The samples whose draw key, as a share of its range, is at most `bound`, and their keys."""
        samples = read_samples(self._data, index)
        keys = draw_order(samples.sample_id, CURVATURE_SEED)
        rows = np.flatnonzero(keys.astype(np.float64) / 2.0**64 <= bound)
        return keys[rows], samples.take(rows)

    def product(self, index: int, argument: tuple[Chunks, Array]) -> tuple[Array, int]:
        """ΣJᵀ∇²ℓJx over chunk `index`, float64 [P], and its samples."""
        chunks, x = argument
        batches = self._batches(chunks, index)
        total, count = gauss_newton_product_sum(self._objective, self._scope, torch.from_numpy(np.array(x)), batches)
        return total.numpy(), count

    def matrix(self, index: int, chunks: Chunks) -> tuple[Array, int]:
        """ΣJᵀ∇²ℓJ over chunk `index`, float64 [P, P], and its samples."""
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
        """A shard's batches without samples whose gradient is not finite; looked for once where there are none."""
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

    def _gradient(self, samples: SampleShard) -> tuple[Array, int]:
        batches = (batch for _, batch in self._source.batches(samples))
        total, count = mean_loss_gradient_sum(self._objective, self._scope, batches)
        return total.numpy(), count


class InfluenceWorker:
    """Scores shards: I(s) = ⟨∇ℓ(s), h⟩ by forward mode, a batch at a time."""

    def __init__(self, source: SurrogateSource, direction: Broadcast, data: Storage) -> None:
        one_thread()
        self._source = source
        self._data = data
        self._objective, self._scope = source.build()
        self._direction: Tensor = torch.from_numpy(np.array(direction.get()["direction"]))

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
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


def read_validation(data: Storage, index: int) -> SampleShard:
    """Every validation target of shard `index` as a sample of its own, with the user's validation history."""
    table = data.read_table(f"samples/valid/{shard_name(index)}.parquet", ["sample_id", "history", "targets"])
    targets = ragged_column(table, "targets")
    row = targets.row_of_value()
    history = ragged_column(table, "history").take(row)
    return SampleShard(table.column("sample_id").to_numpy()[row], history, targets.values)
