"""The executions of Ray Data in this process: their results block by block, and their end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import ray
from ray.data import Dataset
from ray.data._internal.execution.streaming_executor import StreamingExecutor


def blocks_of(dataset: Dataset) -> Iterator[pa.Table]:
    """The blocks of a dataset with rows in them, as they are finished.

    Unlike Ray Data's own iterators, which fetch ahead in threads, this one may be left at any row: nothing of it
    then still asks Ray for something.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for entry in bundle.blocks:
            block = ray.get(entry.ref)
            if block.num_rows:
                yield block


def end_executions() -> None:
    """End all that Ray Data still executes here: what a fault or a request to stop has left in the midst.

    The thread of an execution goes on until somebody collects the iterator over its results, which a traceback may
    hold for long. To be called before Ray is shut down: a thread that then asks Ray for something has Ray end the
    process, with exit code 1 and no word. Ray Data has no public call for it.
    """
    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=False)
            thread.join()
