"""Ray Data executions in this process: reading their results block by block, and ending them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pyarrow as pa
import ray
from ray.data import Dataset
from ray.data._internal.execution.streaming_executor import StreamingExecutor


def blocks_of(dataset: Dataset) -> Iterator[pa.Table]:
    """Yield the non-empty blocks of a dataset as they finish.

    Ray Data's own iterators prefetch in threads. This one may be abandoned at any row without leaving anything behind
    that still calls Ray.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for entry in bundle.blocks:
            block = ray.get(entry.ref)
            if block.num_rows:
                yield block


def end_executions() -> None:
    """End every Ray Data execution that an error or a request to stop has left unfinished.

    An execution stays open until the iterator over its results is collected, and a traceback may hold that iterator
    for a long time. Ending an execution calls Ray, whether or not its thread is still running. So call this before
    Ray shuts down. Otherwise a late thread makes Ray exit the process with code 1 and no message, and a late iterator
    starts another Ray. Ray Data has no public call for this and no list of its executions, so this searches all
    objects.
    """
    executors = [thing for thing in gc.get_objects() if type(thing) is StreamingExecutor]
    for executor in executors:
        executor.shutdown(force=False)
        if executor.is_alive():
            executor.join()
