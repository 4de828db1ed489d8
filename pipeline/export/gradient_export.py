"""Per-sample gradients of a run's surrogate, for those who want more than their inner product with one direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.sample_tables import read_samples
from pipeline.stages.surrogate_source import SurrogateSource
from scoring.batching import HistoryBatch
from scoring.gradients import per_sample_gradients
from scoring.objective import reduce_to_scope
from scoring.surrogate import surrogate_scope

#: Numbers in one batch of gradients: 128 MiB in float32.
_NUMBERS = 1 << 25


def gradient_batches(
    source: SurrogateSource, data: Storage, index: int, scope: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """∇ℓ(s) of every sample of one shard, the shards and the losses being those of stage influence.

    A shard is a pass of its own, so Ray spreads them: `ray.data.range(shards).map_batches(...)` over this function
    writes a whole log's gradients, 4P bytes a sample.

    Parameters
    ----------
    source : the trained surrogate, from `pipeline.stages.surrogate_source.stored_surrogate`.
    data : the run's data folder.
    index : of the shard.
    scope : patterns or names as in `influence.scope`; None is the scope that `source` was given.

    Yields
    ------
    Record batches of sample_id int64 and gradient fixed_size_list<float32>[P], rows of similar history length
    together; the order of parameters is that of the scope's names.

    Raises
    ------
    ScopeError : a pattern matches no parameter.
    """
    model = source.build_model()
    chosen = surrogate_scope(model, source.patterns if scope is None else scope)
    objective = reduce_to_scope(model, chosen)
    samples = read_samples(data, index)
    at_once = max(1, _NUMBERS // chosen.size)
    for rows, batch in source.batches(samples):
        for start in range(0, len(rows), at_once):
            span = slice(start, start + at_once)
            part = HistoryBatch(batch.history[span], batch.lengths[span], batch.target[span])
            gradients = per_sample_gradients(objective, chosen, part).float().numpy()
            column = pa.FixedSizeListArray.from_arrays(pa.array(gradients.ravel(), pa.float32()), chosen.size)
            yield pa.record_batch({"sample_id": samples.sample_id[rows[span]], "gradient": column})
