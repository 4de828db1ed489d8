"""Live progress of a training run: rank 0 writes it to a small actor, the driver shows it.

This module imports little, for the actor's process imports it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import ray
from ray.actor import ActorHandle

from cluster.progress import Progress

_POLL_SECONDS = 0.5


class ProgressBoard:
    """Actor that holds the latest progress of a run between rank 0, who writes, and the driver, who reads."""

    def __init__(self) -> None:
        self._latest: tuple[int, int, dict[str, object]] | None = None

    def put(self, done: int, total: int, facts: dict[str, object]) -> None:
        self._latest = (done, total, facts)

    def get(self) -> tuple[int, int, dict[str, object]] | None:
        return self._latest


class RemoteProgress:
    """The workers' end of the board: sends no more than can be shown, and waits for nothing."""

    def __init__(self, board: ActorHandle) -> None:
        self._board = board
        self._sent = -float("inf")

    def update(self, done: int, total: int, **facts: object) -> None:
        now = time.monotonic()
        if done >= total or now - self._sent >= _POLL_SECONDS:
            self._sent = now
            self._board.put.remote(done, total, facts)


@contextlib.contextmanager
def forwarded(board: ActorHandle, progress: Progress) -> Iterator[None]:
    """Show what is on the board for the length of a block."""
    stop = threading.Event()

    def forward() -> None:
        shown = None
        while True:
            last_round = stop.wait(_POLL_SECONDS)
            with contextlib.suppress(ray.exceptions.RayError):
                latest = ray.get(board.get.remote(), timeout=10)
                if latest is not None and latest != shown:
                    shown = latest
                    progress.update(latest[0], latest[1], **latest[2])
            if last_round:
                return

    thread = threading.Thread(target=forward, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=15)
