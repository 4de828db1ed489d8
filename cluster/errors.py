"""The exception for faults in the user's configuration, data or cluster."""

from __future__ import annotations

from cluster.masking import masked


class UserError(Exception):
    """A fault that the user can fix. The command line prints it as one message and exits with code 2.

    Credentials in URIs are masked, so a message may name any file by its address.

    Parameters
    ----------
    message : what is wrong and where, naming the file, column, key or resource.
    remedy : what to do about it, as an imperative sentence.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = masked(message)
        self.remedy = masked(remedy)
        super().__init__(self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def user_error_in(error: BaseException) -> UserError | None:
    """Return the `UserError` behind an exception, however Ray wrapped it, or None.

    Ray wraps an error of a remote function in a `RayTaskError`, with the original in `cause` or chained through
    `__cause__`; Ray Data and Ray Train wrap it once more.
    """
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, UserError):
            if type(current) is UserError:
                return current
            # Ray raises a dynamic subclass of both errors, and libraries append advice to its text.
            original = getattr(current, "cause", current)
            return UserError(original.message, original.remedy)
        queue += [current.__cause__, current.__context__, getattr(current, "cause", None)]
        worker_failures = getattr(current, "worker_failures", None)
        if isinstance(worker_failures, dict):
            queue += [failure for failure in worker_failures.values() if isinstance(failure, BaseException)]
    return None
