"""Read the log on Ray Data, group it by shard, and pass over it."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.exceptions import RayError

from cluster.errors import UserError, user_error_in
from cluster.ray_data import blocks_of
from pipeline.ingest.reading import KEPT, LogReader, Piece
from pipeline.ingest.vocabulary import item_indices
from scoring.ids import user_shard

#: Rows per partition of the shuffle: some tens of megabytes.
ROWS_PER_PARTITION = 1 << 20
_STORE_SHARE = 0.3

BlockFunction = Callable[..., pa.Table]


@contextlib.contextmanager
def user_faults() -> Iterator[None]:
    """Let a task's `UserError` reach the caller as it was raised, without a traceback in Ray Data's log."""
    context = ray.data.DataContext.get_current()
    original, context.raise_original_map_exception = context.raise_original_map_exception, True
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except RayError as error:
        fault = user_error_in(getattr(error, "cause", None) or error)
        if fault is None:
            raise
        # Ray Data adds advice on retries to `args`; the attributes are unchanged.
        raise UserError(fault.message, fault.remedy) from error
    finally:
        logger.setLevel(level)
        context.raise_original_map_exception = original


def read_log(tasks: Sequence[Sequence[Piece]], reader: LogReader) -> ray.data.Dataset:
    """Read the normalised log into the object store, which spills to disk: it is passed over twice."""

    def read(batch: dict[str, npt.NDArray[np.int64]]) -> Iterator[pa.Table]:
        for index in batch["task"]:
            yield from reader(tasks[index])

    numbers = [{"task": index} for index in range(len(tasks))]
    source = ray.data.from_items(numbers, override_num_blocks=len(tasks))
    return source.map_batches(read, batch_size=1).materialize()


def passed(dataset: ray.data.Dataset, function: BlockFunction, **arguments: object) -> Iterator[pa.Table]:
    """Apply a function to every block and yield the results as they finish."""
    return blocks_of(map_blocks(dataset, function, **arguments))


def map_blocks(dataset: ray.data.Dataset, function: BlockFunction, **arguments: object) -> ray.data.Dataset:
    """Return the dataset of a function's results on whole blocks."""
    return dataset.map_batches(function, batch_size=None, batch_format="pyarrow", fn_kwargs=arguments)


def by_shard(
    log: ray.data.Dataset, vocabulary: pa.Array, shards: int, rows_per_partition: int = ROWS_PER_PARTITION
) -> ray.data.Dataset:
    """Return the kept interactions with item indices and a `shard` column; every shard is whole within one block.

    A log that fits one partition is only put together. A larger one is shuffled by hash, through disk if it would crowd
    the object store. Interactions of items outside the vocabulary are left out.
    """
    encoded = map_blocks(log, encode_block, vocabulary=ray.put(vocabulary), shards=shards)
    partitions = min(shards, math.ceil(log.count() / rows_per_partition))
    if partitions <= 1:
        return encoded.repartition(1)
    with _disk_shuffle(log.size_bytes() or 0):
        return encoded.repartition(partitions, keys=["shard"], sort=True).materialize()


@contextlib.contextmanager
def _disk_shuffle(size: int) -> Iterator[None]:
    """Shuffle through local disks while the data are large for the object store."""
    context = ray.data.DataContext.get_current()
    before = context.use_disk_based_hash_shuffle
    store = ray.cluster_resources().get("object_store_memory", math.inf)
    context.use_disk_based_hash_shuffle = before or size > _STORE_SHARE * store
    try:
        yield
    finally:
        context.use_disk_based_hash_shuffle = before


def encode_block(block: pa.Table, vocabulary: ray.ObjectRef, shards: int) -> pa.Table:
    """Replace item ids with indices, give users their shard, and drop the rows that are not kept."""
    kept = block.filter(pc.equal(block["reason"], KEPT))
    indices = item_indices(kept["item"], ray.get(vocabulary))
    kept = kept.set_column(kept.schema.get_field_index("item"), "item", indices)
    kept = kept.filter(pc.is_valid(kept["item"]))
    users = kept["user"].combine_chunks().dictionary_encode()
    shard_of_user = pa.array(user_shard(users.dictionary.to_pylist(), shards))
    unused = [name for name in ("reason", "title") if name in kept.column_names]
    return kept.drop_columns(unused).append_column("shard", shard_of_user.take(users.indices))
