"""Patience with a Ray that is being started: longer than its own where it works, none where a process has ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import psutil
from ray._private import node, services

_LOOK_SECONDS = 0.2
_LOOK_MILLISECONDS = 500
_PORT_SECONDS = "RAY_gcs_server_port_wait_time_s"


class ProcessEndedError(Exception):
    """A process of this name, without which no node comes up, has ended."""


@contextlib.contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Have a `ray.init` in this block wait `seconds` for its head and its node, and not at all once one has ended.

    Ray itself waits 30 seconds for the head's port and 30 for the node, ten minutes for a head that stands still, and
    as long for one that has ended. Only the first of these is a setting of Ray, and one that also prolongs the third.
    Hence the three functions that it waits by are replaced for the length of the block.

    Raises `ProcessEndedError` and `TimeoutError` through `ray.init`.
    """
    find_node, wait_for_port, connect = services.get_node, node.wait_for_persisted_port, node.GcsClient
    earlier, end = children(), time.monotonic() + seconds

    def get_node(gcs_address: str, node_id: str) -> Any:
        while True:
            try:
                return find_node(gcs_address, node_id)
            except RuntimeError:
                _require_alive("raylet", earlier)
                if time.monotonic() > end:
                    raise TimeoutError from None
            time.sleep(_LOOK_SECONDS)

    def wait_for_persisted_port(folder: str, node_id: str, name: str, timeout_ms: int) -> Any:
        until = time.monotonic() + timeout_ms / 1000 if _PORT_SECONDS in os.environ else end
        while True:
            try:
                return wait_for_port(folder, node_id, name, timeout_ms=min(timeout_ms, _LOOK_MILLISECONDS))
            except RuntimeError:
                _require_alive("gcs_server", earlier)
                if time.monotonic() > until:
                    raise TimeoutError from None

    def gcs_client(*args: Any, **options: Any) -> Any:
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
    """The processes that this one has started, and those that they have."""
    return psutil.Process().children(recursive=True)


def _require_alive(name: str, earlier: list[psutil.Process]) -> None:
    """Raise `ProcessEndedError` unless a process of this name, started after the `earlier` ones, lives."""
    for child in children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child not in earlier and child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                return
    raise ProcessEndedError(name)


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
