"""Watching a cluster that has lost nodes: tell the user, and stop waiting for other nodes after a while."""

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


class CapacityWatch:
    """Logs once when the live nodes lack room for a number of workers, and once when they have it again.

    Attributes
    ----------
    lacking_seconds : how long they have lacked it; 0 while they have it.
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
        capacity = self._view().capacity(self._worker)
        lacking = capacity < self._workers
        if lacking and self._since is None:
            self._since = self._clock()
            log.warning(
                "The live nodes have room for %d of %d workers (%s each). Waiting for other nodes to join. Finished "
                "work is kept; running the same command again continues from it.",
                *(capacity, self._workers, shape_text(self._worker)),
            )
        elif self._since is not None and not lacking:
            self._since = None
            log.info("The cluster has room for %d workers again.", self._workers)


@contextlib.contextmanager
def watch_capacity(
    worker: WorkerShape, workers: int, wait_seconds: float, look_seconds: float = _LOOK_SECONDS
) -> Iterator[None]:
    """Watch the capacity during a block in the main thread, and leave the block if it is lacking for too long.

    Ray itself waits for nodes forever. So do blocks that cannot be interrupted (see `StopSignal.interrupt_main`).

    Parameters
    ----------
    worker, workers : shape and number of the workers without which the block makes no progress.
    wait_seconds : how long the live nodes may lack room for them; `cluster.wait_seconds` in the config.

    Raises `UserError` if they lacked it for longer.
    """
    watch = CapacityWatch(worker, workers)
    over, given_up, interrupting = threading.Event(), threading.Event(), threading.Lock()

    def keep() -> None:
        while not over.wait(look_seconds):
            # If the head does not answer, the pass itself reports that.
            with contextlib.suppress(RayError):
                watch.look()
            with interrupting:
                if watch.lacking_seconds > wait_seconds and not over.is_set() and STOP.interrupt_main():
                    given_up.set()
                    return

    thread = threading.Thread(target=keep, name="capacity-watch", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            with interrupting:
                over.set()
            # The thread may be waiting for a head that does not answer; it then ends with the process.
            thread.join(look_seconds)
    except KeyboardInterrupt as interrupt:
        if not given_up.is_set():
            raise
        raise UserError(
            f"The live nodes have had room for too few workers ({workers} needed, {shape_text(worker)} each) for "
            f"{format_seconds(wait_seconds)}, and no other node has joined.",
            "Restore the nodes, or raise cluster.wait_seconds. Then run the same command again to continue.",
        ) from interrupt
