"""The trained surrogate as the workers of a pass build it, and the samples that they read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load

from cluster.broadcast import Broadcast
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.sample_tables import SampleShard, ragged_column
from scoring.batching import HistoryBatch, collate, length_buckets
from scoring.objective import Differentiable, reduce_to_scope
from scoring.scope import Scope
from scoring.surrogate import Surrogate, build_surrogate, surrogate_scope
from training.loops.training_records import surrogate_metrics

#: Histories times length in a batch, padding included.
_BATCH_TOKENS = 8192
#: Rows times outputs in a batch: 64 MiB in float32.
BATCH_OUTPUTS = 1 << 24
_MODEL = "model.safetensors"

Array = npt.NDArray[np.generic]


class Weights(Protocol):
    """The state of a trained surrogate."""

    def get(self) -> dict[str, Array]:
        """Return the arrays by their names in the state."""


@dataclass(frozen=True)
class StoredWeights:
    """Weights that each process reads from the surrogate's own folder."""

    folder: Storage

    def get(self) -> dict[str, Array]:
        return dict(load(self.folder.read_bytes(_MODEL)))


@dataclass(frozen=True)
class SurrogateSource:
    """Everything that a process needs to build the trained surrogate and the scope.

    Attributes
    ----------
    name, config : the arguments of `build_surrogate`; the config holds `item_count`.
    weights : the state, broadcast or saved.
    patterns : the patterns of the scope; None is the surrogate's own default.
    outputs : the number of outputs that the loss of a sample depends on. It bounds the rows of a batch.
    """

    name: str
    config: Mapping[str, Any]
    weights: Weights
    patterns: Sequence[str] | None
    outputs: int

    def build_model(self) -> Surrogate:
        """Build the surrogate, in evaluation mode."""
        model = build_surrogate(self.name, int(self.config["item_count"]), self.config)
        state = {key: torch.from_numpy(np.array(value)) for key, value in self.weights.get().items()}
        model.load_state_dict(state)
        return model.eval()

    def build(self) -> tuple[Differentiable, Scope]:
        """Build the objective over the scope, and the scope."""
        model = self.build_model()
        scope = surrogate_scope(model, self.patterns)
        return reduce_to_scope(model, scope), scope

    def batches(self, samples: SampleShard) -> Iterator[tuple[npt.NDArray[np.int64], HistoryBatch]]:
        """Yield rows and their batch, histories of similar length together."""
        max_rows = max(1, BATCH_OUTPUTS // self.outputs)
        history = samples.history.tail(int(self.config["max_history"]))
        for rows in length_buckets(history.lengths, _BATCH_TOKENS, max_rows):
            yield rows, collate(history, samples.target, rows)


def trained_surrogate(folder: Storage, out: Storage, patterns: Sequence[str] | None) -> SurrogateSource:
    """Return the surrogate in a stage's folder for a pass. Its weights are broadcast, with a copy in `out`."""
    stored = stored_surrogate(folder, patterns)
    return replace(stored, weights=Broadcast.put(stored.weights.get(), out, "_weights.safetensors"))


def stored_surrogate(folder: Storage, patterns: Sequence[str] | None) -> SurrogateSource:
    """Return the surrogate in a stage's folder for one process, which reads the weights itself."""
    metrics = surrogate_metrics(folder)
    config = {**metrics["config"], "item_count": metrics["item_count"]}
    outputs = build_surrogate(metrics["surrogate"], metrics["item_count"], config).output_count
    return SurrogateSource(metrics["surrogate"], config, StoredWeights(folder), patterns, outputs)


#: A shard takes a tenth of a second.
SHARDS_AT_ONCE = 8


def one_thread() -> None:
    """Use one thread in a worker: workers fill the cores, and the order of sums does not depend on the machine."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def on_one_thread() -> Iterator[None]:
    """Use one thread on the driver within the block, for the same reason."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_validation(data: Storage, index: int) -> SampleShard:
    """Read every validation target of shard `index` as a sample of its own, with the user's validation history."""
    table = data.read_table(f"samples/valid/{shard_name(index)}.parquet", ["sample_id", "history", "targets"])
    targets = ragged_column(table, "targets")
    row = targets.row_of_value()
    history = ragged_column(table, "history").take(row)
    return SampleShard(table.column("sample_id").to_numpy()[row], history, targets.values)
