"""Startup timeouts for Ray: longer than Ray's own while it makes progress, none once a process has exited."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from types import ModuleType

import psutil
from ray._private import node, services

_LOOK_SECONDS = 0.2
_LOOK_MILLISECONDS = 500
_PORT_SECONDS = "RAY_gcs_server_port_wait_time_s"


class ProcessEndedError(Exception):
    """A process without which no node comes up has exited. Its argument is the process's name."""


@contextlib.contextmanager
def start_timeout(seconds: float) -> Iterator[None]:
    """Make `ray.init` wait up to `seconds` for its head and node, but fail at once if one of them exits.

    By default, Ray waits 30 seconds for the head's port, 30 for the node, and ten minutes for a head that hangs or has
    exited. Only the first limit is a setting, and it also extends the third. So this replaces the three functions by
    which Ray waits for the length of the block.

    Raises `ProcessEndedError` and `TimeoutError` through `ray.init`.
    """
    find_node, wait_for_port, connect = services.get_node, node.wait_for_persisted_port, node.GcsClient
    earlier, end = children(), time.monotonic() + seconds

    def get_node(gcs_address: str, node_id: str) -> object:
        while True:
            try:
                return find_node(gcs_address, node_id)
            except RuntimeError:
                _require_alive("raylet", earlier)
                if time.monotonic() > end:
                    raise TimeoutError from None
            time.sleep(_LOOK_SECONDS)

    def wait_for_persisted_port(folder: str, node_id: str, name: str, timeout_ms: int) -> object:
        until = time.monotonic() + timeout_ms / 1000 if _PORT_SECONDS in os.environ else end
        while True:
            try:
                return wait_for_port(folder, node_id, name, timeout_ms=min(timeout_ms, _LOOK_MILLISECONDS))
            except RuntimeError:
                _require_alive("gcs_server", earlier)
                if time.monotonic() > until:
                    raise TimeoutError from None

    def gcs_client(*args: object, **options: object) -> object:
        if time.monotonic() > end:
            raise TimeoutError
        return connect(*args, **options)

    with (
        _replaced(services, "get_node", get_node),
        _replaced(node, "wait_for_persisted_port", wait_for_persisted_port),
        _replaced(node, "GcsClient", gcs_client),
    ):
        yield


def children() -> list[psutil.Process]:
    """Return this process's children, and theirs."""
    return psutil.Process().children(recursive=True)


def _require_alive(name: str, earlier: list[psutil.Process]) -> None:
    """Raise `ProcessEndedError` unless a live process of this name was started after the `earlier` ones."""
    for child in children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child not in earlier and child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                return
    raise ProcessEndedError(name)


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
