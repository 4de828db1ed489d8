"""Connecting to Ray, in the only module that does so."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator

import ray
import torch
from ray.exceptions import AuthenticationError

from cluster.embedded import muted, python_path, start_embedded
from cluster.errors import UserError
from cluster.late_calls import forbid_auto_start
from cluster.project_root import shadowing_file
from cluster.ray_data import end_executions
from cluster.token import forget_token

log = logging.getLogger("dealrec.cluster")

#: Set in every worker before it imports any library. Workers of an embedded Ray inherit it from the driver.
WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "PYTHONWARNINGS": "ignore",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}

#: Read by Ray's own processes as they start, so set before `ray.init`.
_RAY_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_ENABLE_PROGRESS_BARS": "0",
    # Messages of Ray's core that concern users reach the driver as exceptions; the rest is for its developers.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ENABLE_AUTO_CONNECT": "0",
}
_LISTENER_SECONDS = 10.0
#: The first bytes that an HTTP/2 (and so gRPC) client sends: preface and empty SETTINGS frame (RFC 9113, 3.4).
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_FRAME = 4


@contextlib.contextmanager
def ray_session(address: str | None = None, cpus: int | None = None, gpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for a `with` block, and disconnect after it. If Ray is already connected, do nothing.

    Parameters
    ----------
    address : "local" or None starts an embedded Ray here, unless `RAY_ADDRESS` is set (as it is inside a Ray job),
        in which case that cluster is joined; "auto" joins this machine's cluster; "host:port" joins the one there.
    cpus, gpus : logical resources of an embedded Ray; None uses what the machine has.

    Raises `UserError` for a Ray Client address, for a cluster that does not answer, and for an embedded Ray that does
    not start.
    """
    require_own_packages()
    if ray.is_initialized():
        yield
        return
    connect(address, cpus, gpus)
    try:
        yield
    finally:
        _leave()


def require_own_packages() -> None:
    """Raise `UserError` where workers would import a file of the user's in place of a package of this project.

    Ray puts the driver's working directory in front of its workers' paths, and the folder of its script if that is on
    the driver's own path.
    """
    script = os.path.dirname(os.path.realpath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    found = shadowing_file([os.getcwd(), *([script] if script in sys.path else [])])
    if found is not None:
        raise UserError(
            f"{found} has the name of one of dealrec's packages, and the workers would import it in its place.",
            "Rename it, or start from another folder.",
        )


def _leave() -> None:
    """Disconnect from Ray. Errors are only logged, since they must not hide the outcome of the block."""
    try:
        end_executions()
    except Exception:
        log.debug("Ray Data did not end its executions", exc_info=True)
    try:
        ray.shutdown()
    except Exception:
        log.debug("Ray did not shut down", exc_info=True)
    forget_token()


def is_embedded(address: str | None) -> bool:
    """Return whether a session with this address starts a Ray of its own on this machine."""
    return _target(address) == "local"


def _target(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or "local"


def connect(address: str | None, cpus: int | None, gpus: int | None) -> None:
    """Initialise Ray quietly, as `ray_session` describes."""
    target = _target(address)
    if target.startswith("ray://"):
        raise UserError(
            f"cluster.address is {target}, a Ray Client address; the client keeps the driver outside the "
            "cluster, where broadcast and Ray Train cannot work.",
            "Submit the run as a job instead: dealrec submit CONFIG --address http://HEAD:8265.",
        )
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})
    quiet_libraries()
    forbid_auto_start()
    if target == "local":
        start_embedded(cpus, gpus)
    else:
        _join(target)
    configure_ray_data()


def _join(target: str) -> None:
    try:
        _require_listener(target)
        # An empty path would replace that of the nodes.
        path = {"PYTHONPATH": python_path()} if python_path() else {}
        runtime_env = {"env_vars": {**WORKER_ENVIRONMENT, **path}}
        with muted():
            ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
    except (ConnectionError, TimeoutError) as error:
        if "InvalidAuthToken" in f"{error} {error.__cause__}":
            raise token_fault(target) from error
        raise _no_cluster(target, error) from error
    except ValueError as error:
        raise UserError(
            f"cluster.address: {target} is not the address of a cluster ({str(error).splitlines()[0]}).",
            "Give host:port, give auto for this machine's cluster, or omit it to run here.",
        ) from error
    except AuthenticationError as error:
        raise token_fault(target) from error
    except RuntimeError as error:
        if "InvalidAuthToken" in str(error):
            raise token_fault(target) from error
        if "connect to GCS" in str(error):
            raise _no_cluster(target, error) from error
        if "ersion mismatch" not in str(error):
            raise
        raise UserError(
            f"The cluster at {target} runs other versions than this process: {' '.join(str(error).split())}",
            "Use one image, or the same versions of Python and Ray, on all nodes and here.",
        ) from error


def _no_cluster(target: str, error: Exception) -> UserError:
    return UserError(
        f"No Ray cluster answers at {target} ({str(error).splitlines()[0]}).",
        "Start one with `ray start --head`, correct cluster.address, or omit it to run on this machine.",
    )


def token_fault(address: str) -> UserError:
    """Return the error for a cluster that requires a token and was not given the right one."""
    return UserError(
        f"The cluster at {address} requires a token, and none that it accepts was found.",
        "Set RAY_AUTH_MODE=token, and put the token into RAY_AUTH_TOKEN or into ~/.ray/auth_token.",
    )


def _require_listener(target: str) -> None:
    """Raise `ConnectionError` if no head listens at host:port, because `ray.init` would retry for minutes.

    A head speaks gRPC. The dashboard does not, nor does a forwarded port with nothing behind it. Raises `ValueError`
    for a port without a host.
    """
    host, colon, port = target.rpartition(":")
    if colon and not host:
        raise ValueError("it names no host")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            connection.sendall(_HTTP2_PREFACE)
            header = connection.recv(9)
    except OSError as error:
        raise ConnectionError(str(error)) from error
    if len(header) < 4 or header[3] != _SETTINGS_FRAME:
        raise ConnectionError("the service there is not a head's port 6379")


def configure_ray_data() -> None:
    """Turn off Ray Data's progress bars and deadlines, and silence everything but errors."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A shard may take arbitrarily long, and a pass that has lost its nodes waits for others.
    context.execution_no_progress_timeout_s = -1
    quiet_libraries()


def quiet_libraries() -> None:
    """Silence third-party libraries except for errors."""
    os.environ.update({key: os.environ.get(key, value) for key, value in WORKER_ENVIRONMENT.items()})
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in (
        "ray",
        "ray.data",
        "ray.train",
        "ray.tune",
        # These two set a level of their own.
        "ray.dashboard.modules.dashboard_sdk",
        "ray.dashboard.modules.job.sdk",
        "deepspeed",
        "DeepSpeed",
        "transformers",
        "urllib3",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
