"""Runs as Ray jobs: submit, list and stop them through the Ray Jobs API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import posixpath
import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import requests
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.follow import FINAL, answered
from cluster.job_facts import Job
from cluster.job_package import job_package
from cluster.session import quiet_libraries, token_fault

log = logging.getLogger("dealrec.cluster")

#: Not shipped to the cluster: large, local, or of no use there.
EXCLUDES = [
    ".venv",
    "build",
    "dist",
    "*.egg-info",
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
    "examples",
    "**/__pycache__",
]
_REACH = "Give the dashboard's address, such as http://HEAD:8265, or forward its port again."
_AGENT_TRIES = 30
_PREFIX = "dealrec-"
#: Longer than a dashboard takes on a busy head.
_REQUEST_SECONDS = 60.0
#: Ray waits this long between SIGTERM and SIGKILL, longer than a driver needs to finish the work in hand.
_STOP_SECONDS = "110"
#: Variables that Ray's client would take in place of the address that it is given.
_RAY_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class _UnansweredError(UserError, ConnectionError):
    """The Jobs API does not answer. Following a job asks again; every other command ends with this message."""


class _Client(JobSubmissionClient):
    """Ray's client with a timeout: a connection that is lost silently would block a request forever."""

    def __init__(self, address: str, request_seconds: float) -> None:
        # Ray's own constructor sends a first request.
        self._request_seconds = request_seconds
        super().__init__(address)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        # The limit would cover a whole upload, which may take long.
        limit = {} if options.get("data") is not None else {"timeout": self._request_seconds}
        try:
            return super()._do_request(method, endpoint, **{**limit, **options})
        except requests.RequestException as error:
            raise _UnansweredError(
                f"The Ray Jobs API at {self.get_address()} does not answer ({type(error).__name__}).",
                _REACH,
            ) from error


def open_client(address: str, request_seconds: float = _REQUEST_SECONDS) -> JobSubmissionClient:
    """Open the Jobs API at http://HEAD:8265. Raises `UserError` if nothing answers within `request_seconds`."""
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"--address {address} is not that of a dashboard.", "Give it with its scheme, such as http://HEAD:8265."
        )
    try:
        with _without_environment(_RAY_ADDRESSES):
            client = _Client(address, request_seconds)
        quiet_libraries()
        return client
    except AuthenticationError as error:
        raise token_fault(address) from error
    except UserError:
        raise
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"No Ray Jobs API answers at {address} ({str(error).splitlines()[0]}).", _REACH) from error


@contextlib.contextmanager
def _without_environment(names: Sequence[str]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def submission_id(config: str, run_dir: str, options: Sequence[str] = ()) -> str:
    """Return the id of a run's job: the same run has the same id, so that submitting it twice joins the running job.

    The id begins with a digest of the run directory, in which one job at a time may work. `options` are those of
    `dealrec run` that say which stages to run.
    """
    scheme, mark, path = run_dir.rpartition("://")
    folder = f"{scheme}{mark}{posixpath.normpath(path)}"
    asked = "\n".join([config, *options])
    place, content = (hashlib.blake2b(text.encode(), digest_size=4).hexdigest() for text in (folder, asked))
    return f"{_PREFIX}{place}-{content}"


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
    with a counter behind it, since the Jobs API never forgets an id.

    Raises `UserError` if a job of another id is at work in the run directory, and if the cluster refuses.
    """
    taken = {str(details.submission_id): details.status for details in client.list_jobs()}
    place, at = job.rpartition("-")[0], f" --address {client.get_address()}"
    for other, status in taken.items():
        if other.startswith(f"{place}-") and not (other + "-").startswith(f"{job}-") and status not in FINAL:
            raise UserError(
                f"Job {other} is {status.lower()} in this run directory, with another config or for other stages.",
                f"Follow it with `dealrec logs {other}{at}`, end it with `dealrec stop {other}{at}`, or choose another "
                "--run-dir.",
            )
    number = 1
    name = job
    while name in taken:
        if taken[name] not in FINAL:
            return name, True
        number += 1
        name = f"{job}-{number}"
    entrypoint = " ".join(["python", "-m", "pipeline", "run", "-", *(shlex.quote(argument) for argument in arguments)])
    with job_package() as package:
        return _start_job(client, name, entrypoint, config_text, str(package))


def _start_job(
    client: JobSubmissionClient, name: str, entrypoint: str, config_text: str, package: str
) -> tuple[str, bool]:
    """Upload the folder `package` and start the job in it. Return the job's id, and whether it was there already."""
    runtime_env = {
        "working_dir": package,
        "excludes": EXCLUDES,
        # The session sets the workers' variables; Ray refuses a job whose driver sets the same ones again.
        "env_vars": {"DEALREC_CONFIG": _unexpanded(config_text), "RAY_JOB_STOP_WAIT_TIME_S": _STOP_SECONDS},
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
                raise UserError(
                    f"The cluster does not take the job ({str(error).strip().splitlines()[0][:500]}).",
                    f"What is shipped is {package}: no large files may lie there.",
                ) from error
            time.sleep(2.0)
        else:
            return name, False
    raise UserError(
        "The cluster has no agent that could run a job.", "Wait until its head node is ready, and submit again."
    )


def _unexpanded(config_text: str) -> str:
    """Return the config as JSON without a dollar sign, in whose place Ray would put a variable."""
    return json.dumps(yaml.safe_load(config_text)).replace("$", "\\u0024")


def stop_job(client: JobSubmissionClient, job: str, patience: float) -> Job:
    """Ask a job to stop and wait until it has, so that a new submit does not join one that is about to end.

    Returns the job as it is after `patience` seconds at most.
    """
    log.info("Stopping %s, which finishes what it has in hand", job)
    client.stop_job(job)
    end = time.monotonic() + patience
    while True:
        found = Job.of(answered(client, job, client.get_job_info))
        if found.over or time.monotonic() > end:
            return found
        time.sleep(0.5)


def list_jobs(client: JobSubmissionClient) -> list[Job]:
    """Return the cluster's dealrec jobs, newest first."""
    found = [Job.of(details) for details in client.list_jobs() if str(details.submission_id).startswith(_PREFIX)]
    # A job that has not started yet is the newest.
    return sorted(found, key=lambda job: job.started or datetime.max.replace(tzinfo=UTC), reverse=True)


def require_job(client: JobSubmissionClient, job: str) -> None:
    """Raise `UserError` when the cluster knows no such job."""
    if job not in {details.submission_id for details in client.list_jobs()}:
        raise UserError(
            f"The cluster knows no job {job}.", f"List them with `dealrec jobs --address {client.get_address()}`."
        )


def exit_code(client: JobSubmissionClient, job: str, status: JobStatus) -> int:
    """Return the exit code of the job's own program; 1 if it ended without one, killed or stopped."""
    if status == JobStatus.SUCCEEDED:
        return 0
    code = answered(client, job, client.get_job_info).driver_exit_code
    return code if code is not None and code > 0 else 1
