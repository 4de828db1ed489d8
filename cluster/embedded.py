"""An embedded Ray: started with patience on a machine that is busy, and not left half-started."""

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
from cluster.patience import ProcessEndedError, children, patient
from cluster.project_root import CHECKOUT
from cluster.token import forget_token, own_token

log = logging.getLogger("dealrec.cluster")

_NODE_VARIABLE = "RAY_raylet_start_wait_time_s"
#: Seconds for the whole node and milliseconds for its agents, which are Python processes, unless the user has set
#: others: a machine that is busy needs more than Ray's 30 seconds. The time of a worker is left at Ray's, which also
#: notices by it that a worker has died as it started.
_START_ENVIRONMENT = {_NODE_VARIABLE: "120", "RAY_agent_register_timeout_ms": "300000"}
_TRIES = 3
#: After which no other try begins.
_PATIENCE_SECONDS = 200.0
_PAUSE_SECONDS = 5.0
_END_SECONDS = 10.0
#: By which a user fixes the port of the head.
_PORT_VARIABLE = "RAY_GCS_SERVER_PORT"
_TAKEN = re.compile(r"The specified port is (\d+)")


def start_embedded(cpus: int | None, gpus: int | None) -> None:
    """Start a Ray of this process on this machine, and connect to it.

    A start that fails is tried again a few times, since what hinders it on a busy machine passes. Nothing of it is
    left running.

    Parameters
    ----------
    cpus, gpus : logical resources; None takes what the machine has.

    Raises `UserError` when Ray does not start.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    for number in itertools.count(1):
        earlier = children()
        try:
            _start(cpus, gpus)
            return
        except Exception as error:
            _clear(earlier)
            if number == _TRIES or _lasting(error) or time.monotonic() > end:
                raise _not_started(error, number) from error
            log.info("Ray has not started: %s. Trying again.", _reason(error))
            time.sleep(_PAUSE_SECONDS)
        except BaseException:
            _clear(earlier)
            raise


def _start(cpus: int | None, gpus: int | None) -> None:
    # Its workers inherit this process's environment. A runtime environment would start Python twice for each
    # of them, and leave unused those that Ray has started ahead.
    with muted(), _environment(), own_token(), patient(float(os.environ[_NODE_VARIABLE])):
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


def _clear(earlier: list[psutil.Process]) -> None:
    """End what a failed start has started: Ray forgets its processes when it fails before all are there."""
    ray.shutdown()
    forget_token()
    left = [child for child in children() if child not in earlier]
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, timeout=_END_SECONDS)


def _lasting(error: Exception) -> bool:
    """Whether another try would end in the same: it is a setting of the user, or a folder."""
    folder = isinstance(error, OSError) and error.filename is not None
    return isinstance(error, ValueError) or folder or _too_long(error) or _fixed_port(error)


def _fixed_port(error: Exception) -> bool:
    return _PORT_VARIABLE in os.environ and _TAKEN.search(str(error)) is not None


def _too_long(error: Exception) -> bool:
    return "AF_UNIX path length" in str(error)


def _not_started(error: Exception, tries: int) -> UserError:
    again = f", tried {tries} times" if tries > 1 else ""
    return UserError(f"Ray does not start on this machine{again}: {_reason(error)}.", _remedy(error))


def _reason(error: Exception) -> str:
    """What Ray's error says, in a line, without its log and its advice to developers."""
    text = str(error).strip()
    taken = _TAKEN.search(text)
    if isinstance(error, ProcessEndedError):
        return f"its process {text} ended as it started"
    if taken is not None:
        return f"port {taken[1]} is not free"
    if _too_long(error):
        return "the name of its folder is too long"
    if isinstance(error, TimeoutError) or "timed out" in text.lower() or "TimeoutError" in text:
        return "its processes were not ready in time"
    return text.splitlines()[0].split(". ")[0].rstrip(" .:")[:200] if text else type(error).__name__


def _remedy(error: Exception) -> str:
    folder = get_default_ray_temp_dir()
    if isinstance(error, ValueError):
        return "Correct the variable RAY_... of the environment that has this value, or remove it."
    if _too_long(error):
        return f"{folder} leaves no room for the names of its sockets: set RAY_TMPDIR to a short one, such as /tmp."
    if _fixed_port(error):
        return f"Remove {_PORT_VARIABLE} from the environment, so that Ray takes a port that is free."
    if _lasting(error):
        return f"It works in {folder}: mend what is wrong there, or set RAY_TMPDIR to another folder."
    return (
        "Free CPU, memory or disk, and give the same command again. What hindered Ray is in the logs in "
        f"{folder}/session_latest/logs."
    )


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Drop what Ray writes to standard error below Python as it starts or connects; faults come as exceptions."""
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
    """For processes started in the block: patience, and the packages that this process runs."""
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
    """The `PYTHONPATH` of workers: a checkout first, so that they import the packages that the driver runs.

    An installation is left out: workers run the same interpreter, and site-packages in front of the standard library
    would replace modules of it.
    """
    folders = (str(CHECKOUT) if CHECKOUT else "", os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(folder for folder in folders if folder)
