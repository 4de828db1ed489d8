import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.jobs import exit_code, open_client, submission_id, submit_job
from pipeline.engine.config_file import dump_config, parse_config, parse_text


def test_the_same_run_has_the_same_id() -> None:
    assert submission_id("a: 1", "/runs/x") == submission_id("a: 1", "/runs/x")
    assert len({submission_id(config, place) for config in ("a: 1", "a: 2") for place in ("/runs/x", "/runs/y")}) == 4
    assert submission_id("a: 1", "/runs/x").startswith("dealrec-")


def test_other_stages_are_another_job_of_the_same_directory() -> None:
    whole, part = submission_id("a: 1", "/runs/x"), submission_id("a: 1", "/runs/x", ["--until", "select"])
    assert whole != part
    assert whole.rpartition("-")[0] == part.rpartition("-")[0]


@pytest.mark.parametrize(
    ("place", "same"), [("/runs/x", "/runs//x/"), ("/runs/x", "/runs/y/../x"), ("s3://b/runs", "s3://b/runs/")]
)
def test_a_run_directory_has_one_id_however_it_is_written(place: str, same: str) -> None:
    assert submission_id("a: 1", place) == submission_id("a: 1", same)


class Jobs:
    """The part of the Jobs API that submitting needs."""

    def __init__(self, **jobs: JobStatus) -> None:
        self.jobs = {name.replace("_", "-"): status for name, status in jobs.items()}
        self.environment: dict[str, str] = {}

    def get_address(self) -> str:
        return "http://head:8265"

    def list_jobs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(submission_id=name, status=status) for name, status in self.jobs.items()]

    def submit_job(self, entrypoint: str, submission_id: str, runtime_env: dict[str, Any]) -> None:
        self.jobs[submission_id] = JobStatus.PENDING
        self.environment = runtime_env["env_vars"]


def submitted(jobs: Jobs, job: str, config: str = "a: 1") -> tuple[str, bool]:
    return submit_job(cast("JobSubmissionClient", jobs), job, ["--run-dir", "/runs/x"], config)


def test_a_running_job_is_joined_and_an_ended_one_followed_by_another() -> None:
    assert submitted(Jobs(dealrec_a_b=JobStatus.RUNNING), "dealrec-a-b") == ("dealrec-a-b", True)
    jobs = Jobs(dealrec_a_b=JobStatus.FAILED, dealrec_a_b_2=JobStatus.STOPPED, dealrec_a_c=JobStatus.SUCCEEDED)
    assert submitted(jobs, "dealrec-a-b") == ("dealrec-a-b-3", False)
    assert submitted(jobs, "dealrec-a-b") == ("dealrec-a-b-3", True)


@pytest.mark.parametrize("other", ["dealrec_a_c", "dealrec_a_c_2", "dealrec_a_bb"])
def test_a_run_directory_has_one_job_at_a_time(other: str) -> None:
    with pytest.raises(UserError, match=f"Job {other.replace('_', '-')} is running in this run directory"):
        submitted(Jobs(**{other: JobStatus.RUNNING}), "dealrec-a-b")
    assert submitted(Jobs(**{other: JobStatus.STOPPED}), "dealrec-a-b") == ("dealrec-a-b", False)


def test_a_config_travels_as_it_is() -> None:
    config = parse_config(
        {
            "data": {"interactions": "/logs/$HOME/${PATH} \u4e2d \U0001f600"},
            "surrogate": {"model": "mine:build", "settings": {"eps": 1e-05}},
        },
        "test",
    )
    jobs = Jobs()
    submitted(jobs, "dealrec-a-b", dump_config(config))
    text = jobs.environment["DEALREC_CONFIG"]
    assert "$" not in text
    assert parse_text(text, "DEALREC_CONFIG") == config


def test_what_the_cluster_does_not_take_is_the_users_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Request failed with status code 413: too large")

    jobs = Jobs()
    monkeypatch.setattr(jobs, "submit_job", refuse)
    with pytest.raises(UserError, match=r"does not take the job .*413.* no large files"):
        submitted(jobs, "dealrec-a-b")


@pytest.mark.parametrize("address", ["localhost:8265", "ray://localhost:10001", "auto"])
def test_an_address_without_its_scheme_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match="such as http://HEAD:8265"):
        open_client(address)


def test_the_address_given_is_the_one_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:7")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9"):
        open_client("http://127.0.0.1:9")
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:7"


def test_an_end_that_takes_a_connection_and_never_answers_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=f"at {address} does not answer"):
            open_client(address, request_seconds=0.2)


def test_nobody_at_the_address_is_the_users_fault() -> None:
    with pytest.raises(UserError, match=r"The Ray Jobs API at http://127\.0\.0\.1:9 does not answer"):
        open_client("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("status", "of_the_program", "code"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),
        (JobStatus.FAILED, -9, 1),
        (JobStatus.STOPPED, 0, 1),
        (JobStatus.STOPPED, None, 1),
    ],
)
def test_the_exit_code_is_the_jobs(status: JobStatus, of_the_program: int | None, code: int) -> None:
    client = SimpleNamespace(get_job_info=lambda job: SimpleNamespace(driver_exit_code=of_the_program))

    assert exit_code(cast("JobSubmissionClient", client), "dealrec-1", status) == code
