"""Stages el2n, grand and embedding: one more pass of the trained surrogate over the samples, for some selectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import SampleShard, read_samples, train_shards
from pipeline.stages.scoring_pass import ScoringPass
from pipeline.stages.surrogate_source import (
    SHARDS_AT_ONCE,
    SurrogateSource,
    on_one_thread,
    one_thread,
    stored_surrogate,
    trained_surrogate,
)
from pipeline.stages.worker_pools import scoring_pool
from scoring.batching import HistoryBatch
from scoring.difficulty import error_norms, gradient_norms, pair_embeddings
from scoring.ragged import Ragged
from scoring.sasrec import SASRec

_NO_SAMPLES = HistoryBatch(*(torch.zeros(shape, dtype=torch.int64) for shape in ((0, 1), (0,), (0,))))

Values = npt.NDArray[np.float32]
Computation = Callable[[HistoryBatch], Values]


def run_surrogate_feature(context: StageContext, name: str) -> Mapping[str, object]:
    """Compute one of `SURROGATE_FEATURES`; a killed pass resumes with its missing shards.

    A file has sample_id and the feature: float32, or a list of float16 for "embedding".
    """
    pool = scoring_pool(context, len(train_shards(context.folder("ingest"))))
    source = trained_surrogate(context.folder("surrogate"), context.out, context.config.influence.scope)
    return ScoringPass.run(context, pool, FeatureWorker, {"source": source, "name": name}, SHARDS_AT_ONCE).facts()


class FeatureWorker:
    """Computes one feature of shards on the broadcast surrogate."""

    def __init__(self, source: SurrogateSource, data: Storage, name: str) -> None:
        one_thread()
        self._source = source
        self._data = data
        self._name = name
        self._compute = _computation(source, name)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        samples = read_samples(self._data, index)
        values = batched(self._source, self._compute, samples)
        column: pa.Array
        if values.ndim == 1:
            column = pa.array(values, pa.float32())
        else:
            flat = pa.array(values.astype(np.float16).ravel(), pa.float16())
            column = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.table({"sample_id": pa.array(samples.sample_id, pa.int64()), self._name: column}), {}


def _computation(source: SurrogateSource, name: str) -> Computation:
    if name == "grand":
        objective, scope = source.build()
        return lambda batch: gradient_norms(objective, scope, batch)
    model = source.build_model()
    if not isinstance(model, SASRec):
        raise not_sasrec(name)
    if name == "el2n":
        return lambda batch: error_norms(model, batch)
    return lambda batch: pair_embeddings(model, batch)


def not_sasrec(name: str) -> UserError:
    """Return the error for a feature of `SASREC_FEATURES` with a surrogate of the user's own."""
    return UserError(
        f"select.method: the feature {name} is written for the surrogate sasrec, and surrogate.model is another.",
        "Choose a method that does without it, such as dealrec, or the surrogate sasrec.",
    )


def batched(source: SurrogateSource, compute: Computation, samples: SampleShard) -> Values:
    """Compute the feature of the samples, [N] or [N, d], in their order, in batches of similar length."""
    rows, parts = [], []
    for places, batch in source.batches(samples):
        rows.append(places)
        parts.append(compute(batch))
    if not parts:
        # The feature of a shard without samples has the same shape.
        return compute(_NO_SAMPLES)
    values = np.concatenate(parts)
    ordered = np.empty_like(values)
    ordered[np.concatenate(rows)] = values
    return ordered


def reference_embedder(context: StageContext) -> Callable[[Ragged, npt.NDArray[np.int32]], Values]:
    """Return a function that embeds reference samples in the calling process: a selector asks for few of them."""

    def embed(history: Ragged, target: npt.NDArray[np.int32]) -> Values:
        source = stored_surrogate(context.folder("surrogate"), None)
        chosen = SampleShard(np.arange(len(target)), history, target)
        compute = _computation(source, "embedding")
        with on_one_thread():
            embedded = batched(source, compute, chosen)
        # Rounded like the embeddings that workers write.
        return embedded.astype(np.float16).astype(np.float32)

    return embed
