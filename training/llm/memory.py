"""Running a batch in smaller parts if the whole does not fit in the device's memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from cluster.errors import UserError
from training.llm.token_batches import TokenBatch

Result = TypeVar("Result")
logger = logging.getLogger("dealrec.memory")

#: Error texts of torch's CPU allocator (Linux, elsewhere) and of CUDA libraries for which torch has no class.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def run_in_parts(run: Callable[[TokenBatch], Result], batch: TokenBatch) -> list[Result]:
    """Apply `run` to the batch, halving it as often as memory requires, and return the results of the parts in order.

    The next call starts with the whole batch again. Raises `UserError` if even a single row does not fit.
    """
    results: list[Result] = []
    pending = [batch]
    while pending:
        part = pending.pop()
        try:
            results.append(run(part))
            continue
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(part) == 1:
                raise UserError(
                    f"llm.max_tokens: a prompt of {part.input_ids.shape[1]} tokens does not fit in memory.",
                    remedy="Lower llm.max_tokens or evaluate.beams, or use a device with more memory.",
                ) from error
        # Outside the handler, since the exception would keep the tensors of the failed attempt alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        middle = len(part) // 2
        logger.info("out of memory with %d rows; continuing with %d", len(part), middle)
        pending += [part.slice(middle, len(part)), part.slice(0, middle)]
    return results


@contextmanager
def lack_of_memory_as(message: str, remedy: str) -> Iterator[None]:
    """Report failed allocations in the block as a `UserError` with this message."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(message, remedy) from error


def out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that a CPU or GPU allocation failed."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)
