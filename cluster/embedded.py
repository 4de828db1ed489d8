"""Starting an embedded Ray: wait long enough on a busy machine, and leave nothing half-started."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import sys
import time
from collections.abc import Iterator

import psutil
import ray
from ray._common.utils import get_default_ray_temp_dir

from cluster.errors import UserError
from cluster.project_root import CHECKOUT
from cluster.start_timeout import ProcessEndedError, children, start_timeout
from cluster.token import forget_token, own_token

log = logging.getLogger("dealrec.cluster")

_NODE_VARIABLE = "RAY_raylet_start_wait_time_s"
#: Seconds for the whole node and milliseconds for its agents, which are Python processes, unless the user has set
#: others. A busy machine needs more than Ray's 30 seconds. Workers keep Ray's own limit, which is also how Ray notices
#: that a worker died while starting.
_START_ENVIRONMENT = {_NODE_VARIABLE: "120", "RAY_agent_register_timeout_ms": "300000"}
_TRIES = 3
_PATIENCE_SECONDS = 200.0
_PAUSE_SECONDS = 5.0
_END_SECONDS = 10.0
#: The variable with which a user fixes the head's port.
_PORT_VARIABLE = "RAY_GCS_SERVER_PORT"
_TAKEN = re.compile(r"The specified port is (\d+)")


def start_embedded(
    cpus: int | None,
    gpus: int | None,
    pause_seconds: float = _PAUSE_SECONDS,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> None:
    """Start a Ray that belongs to this process on this machine, and connect to it.

    A failed start is retried a few times, since what hinders it on a busy machine is often temporary. A failed attempt
    leaves no process behind.

    Parameters
    ----------
    cpus, gpus : logical resources; None uses what the machine has.
    pause_seconds : the time between two attempts.
    patience_seconds : no further attempt starts after this time.

    Raises `UserError` if Ray does not start.
    """
    end = time.monotonic() + patience_seconds
    for number in itertools.count(1):
        earlier = children()
        try:
            _start(cpus, gpus)
            return
        except Exception as error:
            _clear(earlier)
            if number == _TRIES or _lasting(error) or time.monotonic() > end:
                raise _not_started(error, number) from error
            log.info("Ray did not start: %s. Trying again.", _reason(error))
            time.sleep(pause_seconds)
        except BaseException:
            _clear(earlier)
            raise


def _start(cpus: int | None, gpus: int | None) -> None:
    # Workers inherit this process's environment. A runtime environment would start Python twice for each worker
    # and waste the workers that Ray prestarts.
    with muted(), _environment(), own_token(), start_timeout(float(os.environ[_NODE_VARIABLE])):
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


def _clear(earlier: list[psutil.Process]) -> None:
    """Kill the processes of a failed start. Ray loses track of them if it fails before all are up."""
    ray.shutdown()
    forget_token()
    left = [child for child in children() if child not in earlier]
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, timeout=_END_SECONDS)


def _lasting(error: Exception) -> bool:
    """Return whether a retry would fail in the same way: the cause is a user setting or a folder."""
    folder = isinstance(error, OSError) and error.filename is not None
    return isinstance(error, ValueError) or folder or _too_long(error) or _fixed_port(error)


def _fixed_port(error: Exception) -> bool:
    return _PORT_VARIABLE in os.environ and _TAKEN.search(str(error)) is not None


def _too_long(error: Exception) -> bool:
    return "AF_UNIX path length" in str(error)


def _not_started(error: Exception, tries: int) -> UserError:
    again = f" ({tries} attempts)" if tries > 1 else ""
    return UserError(f"Ray did not start on this machine{again}: {_reason(error)}.", _remedy(error))


def _reason(error: Exception) -> str:
    """Return Ray's error in one line, without its log and its advice to developers."""
    text = str(error).strip()
    taken = _TAKEN.search(text)
    if isinstance(error, ProcessEndedError):
        return f"its process {text} exited during startup"
    if taken is not None:
        return f"port {taken[1]} is in use"
    if _too_long(error):
        return "its folder's name is too long"
    if isinstance(error, TimeoutError) or "timed out" in text.lower() or "TimeoutError" in text:
        return "its processes were not ready in time"
    return text.splitlines()[0].split(". ")[0].rstrip(" .:")[:200] if text else type(error).__name__


def _remedy(error: Exception) -> str:
    folder = get_default_ray_temp_dir()
    if isinstance(error, ValueError):
        return "Correct or remove the RAY_... environment variable that has this value."
    if _too_long(error):
        return f"Set RAY_TMPDIR to a short path, such as /tmp: the sockets' names do not fit below {folder}."
    if _fixed_port(error):
        return f"Remove {_PORT_VARIABLE} from the environment, so that Ray picks a free port."
    if _lasting(error):
        return f"Ray uses {folder}: fix what is wrong there, or set RAY_TMPDIR to another folder."
    return (
        "Free CPU, memory or disk space, and run the same command again. The cause is in Ray's logs in "
        f"{folder}/session_latest/logs."
    )


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Discard what Ray's native code writes to standard error as it starts or connects; errors come as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set the timeouts and the import path of processes started in the block."""
    added = {name: value for name, value in _START_ENVIRONMENT.items() if name not in os.environ}
    before = os.environ.get("PYTHONPATH")
    os.environ.update(added, PYTHONPATH=python_path())
    try:
        yield
    finally:
        for name in (*added, "PYTHONPATH"):
            del os.environ[name]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def python_path() -> str:
    """Return the `PYTHONPATH` of workers: a checkout first, so that they import the packages that the driver runs.

    An installation is left out: workers run the same interpreter, and site-packages in front of the standard library
    would replace modules of it.
    """
    folders = (str(CHECKOUT) if CHECKOUT else "", os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(folder for folder in folders if folder)
