"""List, follow and stop the jobs that `submit` has started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.job_facts import Job
from pipeline.api.calls import api_call

#: Longer than the heads of our manifests give a job to end.
_STOP_SECONDS = 130.0


@dataclass(frozen=True)
class JobLog:
    """The log of a job that has ended.

    Attributes
    ----------
    job, status : its id, and SUCCEEDED, FAILED or STOPPED.
    exit_code : that of its program: 0 where all is done, 2 for a fault that the user can mend, and 1 where it was
        killed or stopped.
    text : all of the log.
    """

    job: str
    status: str
    exit_code: int
    text: str = field(repr=False)


def jobs(*, address: str) -> tuple[Job, ...]:
    """List the jobs of dealrec on a cluster, newest first.

    Parameters
    ----------
    address : of the dashboard, http://HEAD:8265.

    Raises `UserError` for a cluster that does not answer.

    Examples
    --------
    >>> [job.job for job in dealrec.jobs(address="http://head:8265") if not job.over]  # doctest: +SKIP
    ['dealrec-5f0c1a2b-77e9d3c1']
    """
    from cluster.jobs import list_jobs, open_client

    with api_call():
        return tuple(list_jobs(open_client(address)))


def logs(job: str, *, address: str, write: Callable[[str], object] | None = None) -> JobLog:
    """Follow a job to its end, and return its log.

    Interrupt it whenever you like: the job goes on, and can be followed again from its first line.

    Parameters
    ----------
    job : the id of the job.
    address : of the dashboard, http://HEAD:8265.
    write : called with the next characters of the log as they come, such as `sys.stdout.write`; None shows nothing.

    Raises `UserError` for a cluster that does not answer, and for a job that it does not know.

    Examples
    --------
    >>> made = dealrec.submit("shop.yaml", address="http://head:8265", run_dir="s3://bucket/shop")  # doctest: +SKIP
    >>> dealrec.logs(made.job, address=made.address, write=sys.stdout.write).status  # doctest: +SKIP
    'SUCCEEDED'
    """
    from cluster.follow import follow_job
    from cluster.jobs import exit_code, open_client, require_job

    pieces: list[str] = []

    def take(text: str) -> None:
        pieces.append(text)
        if write is not None:
            write(text)

    with api_call():
        client = open_client(address)
        require_job(client, job)
        status = follow_job(client, job, take)
        return JobLog(job, str(status), exit_code(client, job, status), "".join(pieces))


def stop(job: str, *, address: str) -> Job:
    """Stop a job: it finishes the work that it has in hand, and the same submission continues there.

    The call waits until the job has ended, two minutes at most.

    Parameters
    ----------
    job : the id of the job.
    address : of the dashboard, http://HEAD:8265.

    Returns
    -------
    The job as it is then: where `over` is false, it has not ended yet.

    Raises `UserError` for a cluster that does not answer, and for a job that it does not know.

    Examples
    --------
    >>> dealrec.stop("dealrec-5f0c1a2b-77e9d3c1", address="http://head:8265").status  # doctest: +SKIP
    'STOPPED'
    """
    from cluster.jobs import open_client, require_job, stop_job

    with api_call():
        client = open_client(address)
        require_job(client, job)
        return stop_job(client, job, _STOP_SECONDS)
