"""Following a job over unreliable connections."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.follow import follow_job
from cluster.jobs import open_client
from tests.cluster.breaking_proxy import breaking_proxy

#: Prints one line, and the next lines once a file exists.
_PROGRAM = """
import pathlib, sys, time
print("first line", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.1)
print("second line", flush=True)
"""


class OneJob:
    """The part of the Jobs API that following needs: a job that ends once its log was read, or never."""

    def __init__(self, ends: bool) -> None:
        self.ends, self.status = ends, JobStatus.RUNNING

    def get_address(self) -> str:
        return "http://head:8265"

    def get_job_status(self, job: str) -> JobStatus:
        return self.status

    def get_job_logs(self, job: str) -> str:
        return "one\ntwo\n"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield "one\n"
        if not self.ends:
            await asyncio.sleep(3600)
        self.status = JobStatus.SUCCEEDED


def follow(job: OneJob) -> tuple[JobStatus, str]:
    written: list[str] = []
    status = follow_job(cast("JobSubmissionClient", job), "dealrec-1", written.append)
    return status, "".join(written)


async def notebook(job: OneJob) -> tuple[JobStatus, str]:
    """Call as the cell of a notebook does: within an event loop that waits for the call."""
    return follow(job)


def test_a_job_is_followed_in_a_program_and_in_a_notebook() -> None:
    assert follow(OneJob(ends=True)) == (JobStatus.SUCCEEDED, "one\ntwo\n")
    assert asyncio.run(notebook(OneJob(ends=True))) == (JobStatus.SUCCEEDED, "one\ntwo\n")


def test_an_interrupted_notebook_leaves_a_silent_job_at_once(request: pytest.FixtureRequest) -> None:
    # A shell without job control starts its background processes with SIGINT ignored.
    before_test = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before_test))
    loop = asyncio.new_event_loop()
    timer = threading.Timer(0.5, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(notebook(OneJob(ends=False)))
    assert time.monotonic() - before < 60.0
    assert not any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())
    loop.close()


@pytest.mark.slow
def test_a_broken_connection_neither_loses_nor_repeats_a_line(ray_head: str, tmp_path: Path) -> None:
    program, gate = tmp_path / "program.py", tmp_path / "gate"
    program.write_text(_PROGRAM, encoding="utf-8")
    written: list[str] = []
    with breaking_proxy(ray_head) as proxy:
        client = open_client(proxy.address)
        job = client.submit_job(entrypoint=shlex.join([sys.executable, str(program), str(gate)]))
        cut: list[int] = []

        def write(text: str) -> None:
            written.append(text)
            if not cut and "first line" in "".join(written):
                # The stream is open, since this text came through it.
                cut.append(proxy.cut(refusals=3))
                gate.touch()

        assert follow_job(client, job, write) == JobStatus.SUCCEEDED
        assert cut[0] >= 1
        assert proxy.refusals == 0
    lines = [line for line in "".join(written).splitlines() if line.endswith(" line")]
    assert lines == ["first line", "second line"]


@pytest.mark.slow
def test_a_connection_lost_without_a_word_is_noticed(ray_head: str, tmp_path: Path) -> None:
    program, gate = tmp_path / "program.py", tmp_path / "gate"
    program.write_text(_PROGRAM, encoding="utf-8")
    written: list[str] = []
    with breaking_proxy(ray_head) as proxy:
        client = open_client(proxy.address)
        job = client.submit_job(entrypoint=shlex.join([sys.executable, str(program), str(gate)]))

        def write(text: str) -> None:
            written.append(text)
            if not gate.exists() and "first line" in "".join(written):
                assert proxy.silence() >= 1
                gate.touch()

        assert follow_job(client, job, write, silence=15.0) == JobStatus.SUCCEEDED
    lines = [line for line in "".join(written).splitlines() if line.endswith(" line")]
    assert lines == ["first line", "second line"]


@pytest.mark.slow
def test_a_job_that_its_head_has_forgotten_is_told_from_one_that_goes_on(ray_head: str) -> None:
    client = open_client(ray_head)
    with pytest.raises(UserError, match="no longer knows no-such-job") as caught:
        follow_job(client, "no-such-job", lambda text: None)
    assert "Submit again" in caught.value.remedy


@pytest.mark.slow
def test_a_cluster_that_stays_away_is_given_up_with_a_remedy(ray_head: str, tmp_path: Path) -> None:
    with breaking_proxy(ray_head) as proxy:
        client = open_client(proxy.address)
        job = client.submit_job(entrypoint="true")
        proxy.cut(refusals=10**9)
        with pytest.raises(UserError, match="The cluster has not answered") as caught:
            follow_job(client, job, print, patience=0.0)
    assert f"dealrec logs {job} --address {client.get_address()}" in caught.value.remedy
