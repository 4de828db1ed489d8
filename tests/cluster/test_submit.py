"""`dealrec submit`, `jobs`, `logs` and `stop` against a real head, with the commands that a user gives."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

import dealrec
from cluster.jobs import list_jobs
from pipeline.cli.main import main
from pipeline.stages.stage_list import STAGES
from tests.killing import start
from tests.small_run import SmallRun

pytestmark = pytest.mark.slow

_PATIENCE = 900.0


@pytest.fixture
def config(small_run: SmallRun) -> Path:
    return small_run.config


def _newest(address: str) -> tuple[str, JobStatus]:
    client = JobSubmissionClient(address)
    name = list_jobs(client)[0].job
    return name, client.get_job_status(name)


def _wait(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not reached():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.5)


def _begun(run: Path) -> bool:
    events = run / "events.jsonl"
    return events.exists() and "stage_begun" in events.read_text(encoding="utf-8")


def test_a_run_is_submitted_joined_and_followed_to_its_end(
    ray_head: str, small_run: SmallRun, config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Only the report is left; the overlay `smoke` tests a job through all stages.
    run = small_run.begin(tmp_path / "run", "data", "surrogate", "scores", "coreset", "model", "embeddings", "eval")
    submit = ["submit", str(config), "--run-dir", str(run), "--address", ray_head]

    assert main([*submit, "--no-follow"]) == 0
    assert "Submitted dealrec-" in capfd.readouterr().err
    name, status = _newest(ray_head)
    assert status in (JobStatus.PENDING, JobStatus.RUNNING)
    assert main(submit) == 0
    shown = capfd.readouterr()

    assert f"Joined the running job {name}" in shown.err
    assert {stage.name for stage in STAGES if not (run / stage.folder / "_manifest.json").exists()} == set()
    # The job's log appears once, whatever happened to the stream in between.
    assert shown.out.count("Finished in") == 1
    assert _newest(ray_head) == (name, JobStatus.SUCCEEDED)

    assert main(["logs", name, "--address", ray_head]) == 0
    assert capfd.readouterr().out.count("Finished in") == 1
    assert main(["jobs", "--json", "--address", ray_head]) == 0
    rows = json.loads(capfd.readouterr().out)["jobs"]
    assert [row["status"] for row in rows if row["job"] == name] == ["SUCCEEDED"]

    log = dealrec.logs(name, address=ray_head)
    assert (log.status, log.exit_code, log.text.count("Finished in")) == ("SUCCEEDED", 0, 1)
    (job,) = [job for job in dealrec.jobs(address=ray_head) if job.job == name]
    assert job.started is not None
    assert job.ended is not None
    assert (job.over, job.status, job.started < job.ended) == (True, "SUCCEEDED", True)

    # The id stays taken, so a finished run gets a new job, which has nothing to do.
    assert main(submit) == 0
    assert "Everything asked for is complete" in capfd.readouterr().out
    assert _newest(ray_head) == (f"{name}-2", JobStatus.SUCCEEDED)


def test_a_running_job_is_stopped(
    ray_head: str, config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    submit = ["submit", str(config), "--run-dir", str(run), "--address", ray_head, "--no-follow"]
    assert main(submit) == 0
    name, _ = _newest(ray_head)
    _wait(lambda: _begun(run) or _newest(ray_head)[1] == JobStatus.FAILED)

    assert not dealrec.jobs(address=ray_head)[0].over
    assert main(["stop", name, "--address", ray_head]) == 0
    assert f"Stopping {name}" in capfd.readouterr().err
    assert main(["logs", name, "--address", ray_head]) == 1
    assert _newest(ray_head) == (name, JobStatus.STOPPED)
    assert dealrec.stop(name, address=ray_head).status == "STOPPED"
    assert not (run / "report" / "_manifest.json").exists()
    # It had the time to say so itself.
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert events[-1]["event"] == "stage_stopped"


def test_ctrl_c_leaves_the_job_and_says_how_to_follow_or_stop_it(ray_head: str) -> None:
    client = JobSubmissionClient(ray_head)
    job = client.submit_job(entrypoint='python -u -c "import time; print(1); time.sleep(3600)"')
    follower = start(["logs", job, "--address", ray_head])
    assert follower.stdout is not None
    # Ray prints something before.
    while follower.stdout.readline() != "1\n":
        assert follower.poll() is None
    follower.send_signal(signal.SIGINT)
    said, _ = follower.communicate(timeout=_PATIENCE)
    assert follower.returncode == 0, said
    assert f"Detached; {job} goes on." in said
    assert f"dealrec logs {job} --address {ray_head}" in said
    assert f"dealrec stop {job} --address {ray_head}" in said
    assert client.get_job_status(job) == JobStatus.RUNNING
    client.stop_job(job)


def test_a_config_that_means_this_machine_is_not_submitted(config: Path, tmp_path: Path) -> None:
    submit = ["submit", str(config), "--run-dir", str(tmp_path / "run"), "--address", "http://127.0.0.1:9"]
    assert main([*submit, "--set", "cluster.address=local"]) == 2


def test_a_job_that_fails_has_the_exit_code_of_its_program(
    ray_head: str, config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere.parquet"
    submit = ["submit", str(config), "--run-dir", str(tmp_path / "run"), "--address", ray_head]

    assert main([*submit, "--set", f"data.interactions={nowhere}"]) == 2
    shown = capfd.readouterr()
    assert str(nowhere) in shown.out
    assert "FAILED" in shown.err


def test_a_job_that_is_not_there_is_the_users_fault(ray_head: str, capfd: pytest.CaptureFixture[str]) -> None:
    for call in (dealrec.logs, dealrec.stop):
        with pytest.raises(dealrec.UserError, match=r"`dealrec\.jobs\(address='http"):
            call("dealrec-none", address=ray_head)
    for command in ("logs", "stop"):
        assert main([command, "dealrec-none", "--address", ray_head]) == 2
        assert "knows no job dealrec-none" in capfd.readouterr().err
