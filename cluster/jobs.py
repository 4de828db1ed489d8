"""Runs as Ray jobs: submit, follow, list and stop, through the Ray Jobs API."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.place import PROJECT_ROOT
from cluster.session import quiet_libraries

#: Not shipped to the cluster: large, local, or of no use there.
EXCLUDES = [
    ".venv",
    ".git",
    ".cache",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "runs",
    "tests",
    "docs",
    "benchmarks",
    "**/__pycache__",
]
_AGENT_TRIES = 30
_FINAL = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


def open_client(address: str) -> JobSubmissionClient:
    """A client of the Jobs API at http://HEAD:8265. Raises `UserError` when nothing answers there."""
    try:
        client = JobSubmissionClient(address)
        quiet_libraries()
        return client
    except AuthenticationError as error:
        raise UserError(
            f"The cluster at {address} asks for a token, and none that it accepts was found.",
            "Put its token into RAY_AUTH_TOKEN, or into ~/.ray/auth_token.",
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"No Ray Jobs API answers at {address} ({str(error).splitlines()[0]}).",
            "Give the dashboard's address, such as http://HEAD:8265, or forward its port.",
        ) from error


def submission_id(config: str, run_dir: str, overrides: Sequence[str]) -> str:
    """The same run has the same id, so that submitting it twice joins the job that is there."""
    text = json.dumps([config, run_dir, list(overrides)])
    return f"dealrec-{hashlib.blake2b(text.encode('utf-8'), digest_size=8).hexdigest()}"


def submit_job(client: JobSubmissionClient, job: str, arguments: Sequence[str], config_text: str) -> tuple[str, bool]:
    """Start `dealrec run` on the cluster, or join the job of that id while it is running.

    Parameters
    ----------
    client, job : where, and the submission id.
    arguments : of `dealrec run`, without the config.
    config_text : the YAML; it travels in the environment, so it need not be in the checkout.

    Returns
    -------
    The id of the job, and whether it was there already. A finished job of the same id is replaced by a new one
    with a counter behind it, since the Jobs API keeps ids for ever.
    """
    taken = {details.submission_id: details.status for details in client.list_jobs()}
    number = 1
    name = job
    while name in taken:
        if taken[name] not in _FINAL:
            return name, True
        number += 1
        name = f"{job}-{number}"
    entrypoint = " ".join(["python", "-m", "pipeline", "run", "-", *(shlex.quote(argument) for argument in arguments)])
    runtime_env = {
        "working_dir": str(PROJECT_ROOT),
        "excludes": EXCLUDES,
        # The session sets the workers' variables; Ray refuses a job whose driver sets the same ones again.
        "env_vars": {"DEALREC_CONFIG": config_text},
    }
    for _ in range(_AGENT_TRIES):
        try:
            client.submit_job(entrypoint=entrypoint, submission_id=name, runtime_env=runtime_env)
        except RuntimeError as error:
            # A head that has just started answers before the agent that runs jobs is there.
            if "No available agent" not in str(error):
                raise
            time.sleep(2.0)
        else:
            return name, False
    raise UserError(
        "The cluster has no agent that could run a job.", "Wait until its head node is ready, and submit again."
    )


def follow_job(client: JobSubmissionClient, job: str, write: Callable[[str], object]) -> JobStatus:
    """Pass on a job's log until it ends; the job's status, not the stream's end, is what counts."""
    shown = 0
    while True:
        status = client.get_job_status(job)
        shown = asyncio.run(_tail(client, job, shown, write)) if status == JobStatus.RUNNING else shown
        status = client.get_job_status(job)
        if status in _FINAL:
            text = client.get_job_logs(job)
            write(text[shown:])
            return status
        time.sleep(1.0)


async def _tail(client: JobSubmissionClient, job: str, shown: int, write: Callable[[str], object]) -> int:
    """Stream the log from `shown` characters on, until the stream ends or breaks."""
    position = 0
    try:
        async for text in client.tail_job_logs(job):
            fresh = text[max(0, shown - position) :]
            position += len(text)
            if fresh:
                write(fresh)
            shown = max(shown, position)
    except (ConnectionError, RuntimeError):
        return shown
    return shown


def list_jobs(client: JobSubmissionClient) -> list[dict[str, Any]]:
    """Id, status and times (seconds since the epoch) of the cluster's dealrec jobs, newest first."""
    rows = [
        {
            "job": details.submission_id,
            "status": str(details.status),
            "started": (details.start_time or 0) / 1000,
            "ended": None if details.end_time is None else details.end_time / 1000,
        }
        for details in client.list_jobs()
        if (details.submission_id or "").startswith("dealrec-")
    ]
    return sorted(rows, key=lambda row: -row["started"])


def require_job(client: JobSubmissionClient, job: str) -> None:
    """Raise `UserError` when the cluster knows no such job."""
    if job not in {details.submission_id for details in client.list_jobs()}:
        raise UserError(f"The cluster knows no job {job}.", "List them with dealrec jobs --address URL.")


def exit_code(client: JobSubmissionClient, job: str, status: JobStatus) -> int:
    """The exit code of the job's own program; 1 where it ended without one, killed or stopped."""
    if status == JobStatus.SUCCEEDED:
        return 0
    code = client.get_job_info(job).driver_exit_code
    return code if code is not None and code > 0 else 1
