"""The executions of Ray Data in this process: their results block by block, and their end."""

from __future__ import annotations

import gc
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
    """End all executions of Ray Data that nobody has ended: what a fault or a request to stop has left in the midst.

    An execution stays open until somebody collects the iterator over its results, which a traceback may hold for long,
    and asks Ray for something as it ends, whether its thread still runs or is done with its work. Hence this is to be
    called before Ray is shut down: a thread that asks later has Ray end the process, with exit code 1 and no word, and
    an iterator that is collected later would start another Ray. Ray Data has no public call for it, and no list of
    its executions, so that they are looked for among all objects.
    """
    executors = [thing for thing in gc.get_objects() if type(thing) is StreamingExecutor]
    for executor in executors:
        executor.shutdown(force=False)
        if executor.is_alive():
            executor.join()
