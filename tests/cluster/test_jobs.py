import pytest

from cluster.errors import UserError
from cluster.jobs import exit_code, open_client, submission_id


def test_the_same_run_has_the_same_id() -> None:
    assert submission_id("a: 1", "/runs/x", ()) == submission_id("a: 1", "/runs/x", ())
    assert submission_id("a: 1", "/runs/x", ()) != submission_id("a: 2", "/runs/x", ())
    assert submission_id("a: 1", "/runs/x", ()).startswith("dealrec-")


def test_nobody_at_the_address_is_the_users_fault() -> None:
    with pytest.raises(UserError, match=r"No Ray Jobs API answers at http://127\.0\.0\.1:9"):
        open_client("http://127.0.0.1:9")


def test_only_success_is_zero() -> None:
    from ray.job_submission import JobStatus

    assert exit_code(JobStatus.SUCCEEDED) == 0
    assert exit_code(JobStatus.FAILED) == exit_code(JobStatus.STOPPED) == 1
