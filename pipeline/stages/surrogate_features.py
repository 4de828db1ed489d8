"""What some selectors ask of the trained surrogate, one more pass over the samples: difficulty and embeddings.

The files are shared by all selections of a run. Their folder names what they come from, so none is ever stale.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cluster.digest import json_digest
from cluster.errors import UserError
from cluster.sharded_map import map_shards
from cluster.shards import finished_shards
from cluster.storage import Storage
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import SampleShard, read_samples
from pipeline.stages.influence_stage import surrogate_source
from pipeline.stages.surrogate_source import SHARDS_AT_ONCE, SurrogateSource, on_one_thread, one_thread
from pipeline.stages.worker_pools import scoring_pool
from scoring.batching import HistoryBatch
from scoring.difficulty import error_norms, gradient_norms, pair_embeddings
from scoring.ragged import Ragged
from scoring.sasrec import SASRec

SURROGATE_FEATURES = ("el2n", "grand", "embedding")
#: Those that are written for the built-in surrogate alone.
SASREC_FEATURES = ("el2n", "embedding")
_VERSION = 1
_SECONDS = "_seconds.json"


def write_features(context: StageContext, names: Sequence[str], indices: Sequence[int]) -> dict[str, Storage]:
    """Compute the features that are not there yet, resuming shard by shard; the folder of each.

    A file has sample_id and the feature: float32, or a list of float16 for "embedding".
    """
    folders = {}
    for name in names:
        out = _folder(context, name)
        if len(finished_shards(out, indices)) < len(indices):
            source = surrogate_source(context.folder("surrogate"), out, context.config.influence.scope)
            arguments = {"source": source, "data": context.folder("ingest"), "name": name}
            pool = scoring_pool(context, len(indices))
            with seconds_kept(out):
                map_shards(FeatureWorker, arguments, indices, out, pool, context.progress, SHARDS_AT_ONCE)
        folders[name] = out
    return folders


@contextlib.contextmanager
def seconds_kept(out: Storage) -> Iterator[None]:
    """Add the wall seconds of a block to those that the feature in `out` has taken."""
    start = time.monotonic()
    try:
        yield
    finally:
        out.write_json(_SECONDS, seconds_taken(out) + time.monotonic() - start)


def seconds_taken(out: Storage) -> float:
    """Wall seconds that the feature in `out` took to compute, so far; 0 where it is not there."""
    return float(out.read_json(_SECONDS)) if out.exists(_SECONDS) else 0.0


def feature_seconds(context: StageContext, name: str) -> float:
    """Wall seconds that a feature of `SURROGATE_FEATURES` took to compute."""
    return seconds_taken(_folder(context, name))


def _folder(context: StageContext, name: str) -> Storage:
    settings = {"scope": context.config.influence.scope} if name == "grand" else {}
    return feature_folder(context, name, {"version": _VERSION, **settings})


def feature_folder(context: StageContext, name: str, settings: Mapping[str, Any]) -> Storage:
    """Named by a digest of all that the feature depends on: the data, the surrogate, and settings."""
    inputs = dict(settings)
    for stage in ("ingest", "surrogate"):
        manifest = read_manifest(context.folder(stage))
        inputs[stage] = None if manifest is None else manifest.content
    return context.run.child("scores", "surrogate", f"{name}-{json_digest(inputs)[:12]}")


class FeatureWorker:
    """Computes one feature of shards on the broadcast surrogate."""

    def __init__(self, source: SurrogateSource, data: Storage, name: str) -> None:
        one_thread()
        self._source = source
        self._data = data
        self._name = name
        self._compute = _computation(source, name)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        samples = read_samples(self._data, index)
        values = batched(self._source, self._compute, samples)
        column: pa.Array
        if values.ndim == 1:
            column = pa.array(values, pa.float32())
        else:
            flat = pa.array(values.astype(np.float16).ravel(), pa.float16())
            column = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.table({"sample_id": pa.array(samples.sample_id, pa.int64()), self._name: column}), {}


_NO_SAMPLES = HistoryBatch(*(torch.zeros(shape, dtype=torch.int64) for shape in ((0, 1), (0,), (0,))))

Computation = Callable[[HistoryBatch], npt.NDArray[np.float32]]


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
    """A feature of `SASREC_FEATURES` is asked of a surrogate of the user's own."""
    return UserError(
        f"select.method: the feature {name} is written for the surrogate sasrec, and surrogate.model is another.",
        "Choose a method that does without it, such as dealrec, or the surrogate sasrec.",
    )


def batched(source: SurrogateSource, compute: Computation, samples: SampleShard) -> npt.NDArray[np.float32]:
    """A feature of samples, [N] or [N, d], in their order; computed in batches of similar length."""
    rows, parts = [], []
    for places, batch in source.batches(samples):
        rows.append(places)
        parts.append(compute(batch))
    if not parts:
        # A shard without samples has its feature's shape all the same.
        return compute(_NO_SAMPLES)
    values = np.concatenate(parts)
    ordered = np.empty_like(values)
    ordered[np.concatenate(rows)] = values
    return ordered


def reference_embedder(context: StageContext) -> Callable[[Ragged, npt.NDArray[np.int32]], npt.NDArray[np.float32]]:
    """Embeds reference samples, on the driver: a selector asks for few of them."""

    def embed(history: Ragged, target: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        out = _folder(context, "embedding")
        source = surrogate_source(context.folder("surrogate"), out, context.config.influence.scope)
        chosen = SampleShard(np.arange(len(target)), history, target)
        compute = _computation(source, "embedding")
        with on_one_thread():
            embedded = batched(source, compute, chosen)
        # Rounded like the embeddings that workers write.
        return embedded.astype(np.float16).astype(np.float32)

    return embed
