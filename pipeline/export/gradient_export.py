"""Per-sample gradients of a run's surrogate, for those who want more than their inner product with one direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.sample_tables import read_samples, train_shards
from pipeline.stages.surrogate_source import SurrogateSource, stored_surrogate
from scoring.batching import HistoryBatch
from scoring.gradients import per_sample_gradients
from scoring.objective import reduce_to_scope
from scoring.surrogate import surrogate_scope

#: Numbers in one batch of gradients: 128 MiB in float32.
_NUMBERS = 1 << 25


def run_gradients(
    surrogate: Storage, data: Storage, scope: Sequence[str] | None, shards: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the batches of `gradient_batches` for some shards of a run, or for all.

    Parameters
    ----------
    surrogate, data : the folders of the stages surrogate and ingest.
    scope : as for `gradient_batches`.
    shards : their numbers; None is all.

    Raises `UserError` for a shard that is not there, `ScopeError` for a scope that matches nothing.
    """
    known = train_shards(data)
    unknown = sorted(set(shards or ()) - set(known))
    if unknown:
        raise UserError(f"There is no train shard {unknown[0]}.", f"This run has the shards 0 to {len(known) - 1}.")
    source = stored_surrogate(surrogate, scope)
    for index in known if shards is None else shards:
        yield from gradient_batches(source, data, index)


def gradient_batches(
    source: SurrogateSource, data: Storage, index: int, scope: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield ∇ℓ(s) of every sample of one shard; shards and losses are those of the stage influence.

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
