"""A request to stop, told to the workers of a pass by a file beside their output."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from cluster.shards import attempts_at, finished_shards
from cluster.stopping import STOP
from cluster.storage import Storage

log = logging.getLogger("dealrec.cluster")

_MARK = "_stop"
_POLL_SECONDS = 0.5
#: Shorter than the grace that our pods are given; a shard that takes longer is begun again by the next run.
_PATIENCE = 100.0


@contextlib.contextmanager
def stop_mark(out: Storage) -> Iterator[None]:
    """Defer a request to stop over a block, and put up the mark when it comes.

    The mark is left there: workers may have a call waiting that they come to after the driver has left. The next pass
    takes it down (`clear_stop_mark`).
    """
    with STOP.deferred() as told:
        thread = threading.Thread(target=_put_up, args=(out, told), name="stop-mark", daemon=True)
        thread.start()
        try:
            yield
        finally:
            told.set()
            thread.join()


def clear_stop_mark(out: Storage) -> None:
    """Before a pass: what an earlier one was told does not hold for this one."""
    out.delete(_MARK)


def _put_up(out: Storage, told: threading.Event) -> None:
    told.wait()
    if STOP.requested:
        log.info("Stopping: what is in hand is finished first. A second signal stops at once.")
        out.write_bytes(_MARK, b"")


def stopping(out: Storage) -> bool:
    """In a worker: whether no shard is to be begun any more."""
    return out.exists(_MARK)


class ShardsInHand:
    """The shards of a pass that were begun in it and are not finished.

    Parameters
    ----------
    out, indices : of the pass, before it begins: what an earlier run left begun is in nobody's hand.
    """

    def __init__(self, out: Storage, indices: Sequence[int]) -> None:
        self._out = out
        self._indices = indices
        self._before = attempts_at(out, indices)

    def now(self) -> set[int]:
        """Their numbers."""
        attempts = attempts_at(self._out, self._indices)
        begun = {index for index, attempt in attempts.items() if attempt != self._before.get(index)}
        return begun - set(finished_shards(self._out, self._indices))

    def wait(self) -> None:
        """Until there is none, but no longer than a pod has to end."""
        end = time.monotonic() + _PATIENCE
        while self.now() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
