"""Following a Ray job to its end over an unreliable connection, such as a forwarded port."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.session import token_fault

log = logging.getLogger("dealrec.cluster")

FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED})
#: Exceptions that the Jobs API client raises if nobody answers: those of requests and aiohttp, and its own.
_UNANSWERED = (OSError, aiohttp.ClientError, RuntimeError)
#: Found in the answer about a job that the head does not know. Only a head with its own store keeps jobs on restart.
_UNKNOWN = "status code 404"
_POLL_SECONDS = 1.0
#: After this silence the stream is reopened. It then resends the whole log, so this should be rare.
_SILENCE_SECONDS = 300.0
#: Long enough to restart a port forward.
_PATIENCE = 300.0

Answer = TypeVar("Answer")


def follow_job(
    client: JobSubmissionClient,
    job: str,
    write: Callable[[str], object],
    patience: float = _PATIENCE,
    silence: float = _SILENCE_SECONDS,
) -> JobStatus:
    """Copy a job's log until the job ends. The job's status decides that, not the end of the stream.

    Every character of the log is written once, however often the connection breaks.

    Parameters
    ----------
    client, job : client of the cluster, and the job's submission id.
    write : called with the next characters of the log.
    patience : seconds without an answer after which to give up.
    silence : seconds without output after which to ask for the job's status.

    Raises `UserError` if the cluster does not answer for that long, does not know the job, or requires another token.
    """
    try:
        return _follow(client, job, write, patience, silence)
    except AuthenticationError as error:
        raise token_fault(client.get_address()) from error


def _follow(
    client: JobSubmissionClient, job: str, write: Callable[[str], object], patience: float, silence: float
) -> JobStatus:
    shown = 0
    while True:
        if answered(client, job, client.get_job_status, patience) == JobStatus.RUNNING:
            shown = _completed(_tail(client, job, shown, write, silence))
        status = answered(client, job, client.get_job_status, patience)
        if status in FINAL:
            write(answered(client, job, client.get_job_logs, patience)[shown:])
            return status
        time.sleep(_POLL_SECONDS)


def answered(
    client: JobSubmissionClient, job: str, ask: Callable[[str], Answer], patience: float = _PATIENCE
) -> Answer:
    """Ask the cluster about a job through a method of the client, retrying while it does not answer."""
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            return ask(job)
        except _UNANSWERED as error:
            if _UNKNOWN in str(error):
                raise UserError(
                    f"The cluster at {client.get_address()} no longer knows {job}: its head was restarted.",
                    "Submit again with the same run directory; the job continues from the finished work.",
                ) from error
            if time.monotonic() > end:
                raise UserError(
                    f"The cluster has not answered for {patience:.0f} s ({str(error).splitlines()[0]}).",
                    f"{job} keeps running. Once the cluster answers, follow it again with "
                    f"`dealrec logs {job} --address {client.get_address()}`.",
                ) from error
        if not told:
            log.warning("The cluster does not answer. Retrying; %s keeps running.", job)
            told = True
        time.sleep(_POLL_SECONDS)


def _completed(work: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine to its end, also where this thread is within an event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    task: asyncio.Task[Any] | None = None
    begun = threading.Event()

    async def cancellable() -> int:
        nonlocal task
        task = asyncio.current_task()
        begun.set()
        return await work

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(asyncio.run, cancellable())
        try:
            return future.result()
        finally:
            # An interrupted caller does not wait for the stream, which may be silent for minutes.
            if not future.done() and begun.wait() and task is not None:
                task.get_loop().call_soon_threadsafe(task.cancel)


async def _tail(
    client: JobSubmissionClient, job: str, shown: int, write: Callable[[str], object], silence: float
) -> int:
    """Stream the log from character `shown` until it ends, breaks or falls silent. Return the characters shown so far.

    Silence means that the job prints nothing or that the connection is lost. Asking for the job's status tells which.
    """
    position = 0
    stream = client.tail_job_logs(job)
    while True:
        try:
            text = await asyncio.wait_for(anext(stream), silence)
        except (StopAsyncIteration, TimeoutError):
            return shown
        except _UNANSWERED as error:
            log.debug("The stream of %s's log broke: %s", job, error)
            return shown
        fresh = text[max(0, shown - position) :]
        position += len(text)
        if fresh:
            write(fresh)
        shown = max(shown, position)
