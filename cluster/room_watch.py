"""A word to the user while work has lost the nodes it runs on, and waits for others."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from ray.exceptions import RayError

from cluster.resources import ClusterView
from cluster.shapes import WorkerShape, shape_text

log = logging.getLogger("dealrec.cluster")

_LOOK_SECONDS = 15.0


class RoomWatch:
    """Says once that the living nodes have no room for so many workers, and once that they have again."""

    def __init__(
        self, worker: WorkerShape, workers: int = 1, view: Callable[[], ClusterView] = lambda: ClusterView.now(())
    ) -> None:
        self._worker = worker
        self._workers = workers
        self._view = view
        self._lacking = False

    def look(self) -> None:
        room = self._view().room(self._worker)
        lacking = room < self._workers
        if lacking and not self._lacking:
            log.warning(
                "The living nodes have room for %d of %d workers (%s each): waiting for others to join. What is "
                "finished is kept, and the same command goes on from there.",
                *(room, self._workers, shape_text(self._worker)),
            )
        elif self._lacking and not lacking:
            log.info("There is room for %d workers again.", self._workers)
        self._lacking = lacking


@contextlib.contextmanager
def watched_room(worker: WorkerShape, workers: int = 1) -> Iterator[None]:
    """Keep a `RoomWatch` over a block."""
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(RoomWatch(worker, workers), over), name="room-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # It may just be asking a head that does not answer; it then ends with the process.
        thread.join(_LOOK_SECONDS)


def _keep(watch: RoomWatch, over: threading.Event) -> None:
    while not over.wait(_LOOK_SECONDS):
        # A cluster whose head does not answer tells the pass itself.
        with contextlib.suppress(RayError):
            watch.look()
