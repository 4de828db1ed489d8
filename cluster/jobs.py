"""Runs as Ray jobs: submit and list, through the Ray Jobs API."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.follow import FINAL
from cluster.place import PROJECT_ROOT
from cluster.session import quiet_libraries, token_fault

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


def open_client(address: str) -> JobSubmissionClient:
    """A client of the Jobs API at http://HEAD:8265. Raises `UserError` when nothing answers there."""
    try:
        client = JobSubmissionClient(address)
        quiet_libraries()
        return client
    except AuthenticationError as error:
        raise token_fault(address) from error
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
        if taken[name] not in FINAL:
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
            if "already exists" in str(error):
                # Somebody else was faster.
                return name, True
            # A head that has just started answers before the agent that runs jobs is there.
            if "No available agent" not in str(error):
                raise
            time.sleep(2.0)
        else:
            return name, False
    raise UserError(
        "The cluster has no agent that could run a job.", "Wait until its head node is ready, and submit again."
    )


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
