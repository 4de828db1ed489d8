"""The one exception that means: the user's configuration, data or cluster is at fault."""

from __future__ import annotations


class UserError(Exception):
    """A fault that the user can mend; the command line turns it into exit code 2 and one message.

    Parameters
    ----------
    message : what is wrong and where: the file, column, key or resource, by name.
    remedy : what to do about it, as an imperative sentence.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def user_error_in(error: BaseException) -> UserError | None:
    """The `UserError` that lies behind an exception, however Ray wrapped it, or None.

    Ray raises an error of a remote function as a `RayTaskError` with the original in `cause`, or chained
    by `__cause__`; libraries on top of it (Ray Data, Ray Train) wrap once more.
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
            # Ray raises a class of its own that is both errors; libraries append advice to its text.
            original = getattr(current, "cause", current)
            return UserError(original.message, original.remedy)
        queue += [current.__cause__, current.__context__, getattr(current, "cause", None)]
        worker_failures = getattr(current, "worker_failures", None)
        if isinstance(worker_failures, dict):
            queue += [failure for failure in worker_failures.values() if isinstance(failure, BaseException)]
    return None
