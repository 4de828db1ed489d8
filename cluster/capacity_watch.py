"""Work that has lost the nodes it runs on: a word to the user, and an end to the wait for others."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from ray.exceptions import RayError

from cluster.errors import UserError
from cluster.progress import format_seconds
from cluster.resources import ClusterView
from cluster.shapes import WorkerShape, shape_text
from cluster.stopping import STOP

log = logging.getLogger("dealrec.cluster")

_LOOK_SECONDS = 15.0


class RoomWatch:
    """Says once that the living nodes have no room for so many workers, and once that they have again.

    Attributes
    ----------
    lacking_seconds : how long they have had none; 0 while they have.
    """

    def __init__(
        self,
        worker: WorkerShape,
        workers: int = 1,
        view: Callable[[], ClusterView] = lambda: ClusterView.now(()),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._workers = workers
        self._view = view
        self._clock = clock
        self._since: float | None = None

    @property
    def lacking_seconds(self) -> float:
        return 0.0 if self._since is None else self._clock() - self._since

    def look(self) -> None:
        room = self._view().room(self._worker)
        lacking = room < self._workers
        if lacking and self._since is None:
            self._since = self._clock()
            log.warning(
                "The living nodes have room for %d of %d workers (%s each): waiting for others to join. What is "
                "finished is kept, and the same command goes on from there.",
                *(room, self._workers, shape_text(self._worker)),
            )
        elif self._since is not None and not lacking:
            self._since = None
            log.info("There is room for %d workers again.", self._workers)


@contextlib.contextmanager
def watched_room(
    worker: WorkerShape, workers: int, wait_seconds: float, look_seconds: float = _LOOK_SECONDS
) -> Iterator[None]:
    """Keep a `RoomWatch` over a block of the main thread, and leave the block when the room stays away too long.

    Ray itself waits for nodes without end. Blocks that nothing can interrupt (see `StopSignal.leave`) wait, too.

    Parameters
    ----------
    worker, workers : without room for so many of which nothing goes on.
    wait_seconds : how long the living nodes may lack it; `cluster.wait_seconds` of the configuration.

    Raises `UserError` when they lacked it for longer.
    """
    watch = RoomWatch(worker, workers)
    over, given_up, leaving = threading.Event(), threading.Event(), threading.Lock()

    def keep() -> None:
        while not over.wait(look_seconds):
            # A cluster whose head does not answer tells the pass itself.
            with contextlib.suppress(RayError):
                watch.look()
            with leaving:
                if watch.lacking_seconds > wait_seconds and not over.is_set() and STOP.leave():
                    given_up.set()
                    return

    thread = threading.Thread(target=keep, name="room-watch", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            with leaving:
                over.set()
            # It may just be asking a head that does not answer; it then ends with the process.
            thread.join(look_seconds)
    except KeyboardInterrupt as interrupt:
        if not given_up.is_set():
            raise
        raise UserError(
            f"The living nodes have had room for too few workers ({workers} needed, {shape_text(worker)} each) for "
            f"{format_seconds(wait_seconds)}, and no other has joined.",
            "Bring the nodes back, or raise cluster.wait_seconds; the same command goes on from what is finished.",
        ) from interrupt
