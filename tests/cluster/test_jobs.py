from types import SimpleNamespace
from typing import cast

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.errors import UserError
from cluster.jobs import exit_code, open_client, submission_id


def test_the_same_run_has_the_same_id() -> None:
    assert submission_id("a: 1", "/runs/x", ()) == submission_id("a: 1", "/runs/x", ())
    assert submission_id("a: 1", "/runs/x", ()) != submission_id("a: 2", "/runs/x", ())
    assert submission_id("a: 1", "/runs/x", ()).startswith("dealrec-")


def test_nobody_at_the_address_is_the_users_fault() -> None:
    with pytest.raises(UserError, match=r"No Ray Jobs API answers at http://127\.0\.0\.1:9"):
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
