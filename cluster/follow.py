"""Following a Ray job to its end, over a connection that may break: a forwarded port does, sooner or later."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.session import token_fault

log = logging.getLogger("dealrec.cluster")

FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED})
#: What the client of the Jobs API lets through when nobody answers: of requests, of aiohttp, and its own.
_UNANSWERED = (OSError, aiohttp.ClientError, RuntimeError)
#: In the answer about a job that a head has no record of; only a store of its own (fault tolerance) would keep it.
_UNKNOWN = "status code 404"
_POLL_SECONDS = 1.0
#: The stream is then opened anew and brings the whole log again, so not too often.
_SILENCE_SECONDS = 300.0
#: Long enough to forward a port again.
_PATIENCE = 300.0

Answer = TypeVar("Answer")


def follow_job(
    client: JobSubmissionClient,
    job: str,
    write: Callable[[str], object],
    patience: float = _PATIENCE,
    silence: float = _SILENCE_SECONDS,
) -> JobStatus:
    """Pass on a job's log until it ends; the job's status, not the stream's end, is what counts.

    Every character of the log is written once, however often the connection breaks.

    Parameters
    ----------
    client, job : where, and the submission id.
    write : takes the next characters of the log.
    patience : seconds without an answer after which following is given up.
    silence : seconds without a line of the log after which the job's status is asked for.

    Raises `UserError` when the cluster has not answered for so long, does not know the job, or asks for another token.
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
            shown = asyncio.run(_tail(client, job, shown, write, silence))
        status = answered(client, job, client.get_job_status, patience)
        if status in FINAL:
            write(answered(client, job, client.get_job_logs, patience)[shown:])
            return status
        time.sleep(_POLL_SECONDS)


def answered(
    client: JobSubmissionClient, job: str, ask: Callable[[str], Answer], patience: float = _PATIENCE
) -> Answer:
    """What the cluster answers when a method of the client asks about a job, asked again while it does not."""
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            return ask(job)
        except _UNANSWERED as error:
            if _UNKNOWN in str(error):
                raise UserError(
                    f"The cluster at {client.get_address()} does not know {job} any more: its head was started anew.",
                    "Submit again with the same run directory; the job goes on from what is finished.",
                ) from error
            if time.monotonic() > end:
                raise UserError(
                    f"The cluster has not answered for {patience:.0f} s ({str(error).splitlines()[0]}).",
                    f"{job} goes on without us. Once the cluster answers, follow it again by "
                    f"dealrec logs {job} --address {client.get_address()}.",
                ) from error
        if not told:
            log.warning("The cluster does not answer; asking again. %s goes on without us.", job)
            told = True
        time.sleep(_POLL_SECONDS)


async def _tail(
    client: JobSubmissionClient, job: str, shown: int, write: Callable[[str], object], silence: float
) -> int:
    """Stream the log from `shown` characters on, until it ends, breaks or is silent; how many are shown then.

    Silence may be a job with nothing to say or a connection that is lost without a word; asking for the job's status
    tells them apart.
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
