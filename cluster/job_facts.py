"""What the Ray Jobs API tells about a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

_OVER = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """A Ray job.

    Attributes
    ----------
    job : its id, the submission id of the Jobs API.
    status : PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
    started, ended : times in UTC; None for what has not happened yet.
    """

    job: str
    status: str
    started: datetime | None
    ended: datetime | None

    @property
    def over(self) -> bool:
        """Tell whether the job has ended, in whatever way."""
        return self.status in _OVER

    @classmethod
    def of(cls, details: JobDetails) -> Job:
        """Read a job from an answer of the Jobs API, whose times are milliseconds since the epoch."""
        return cls(str(details.submission_id), str(details.status), _time(details.start_time), _time(details.end_time))


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
