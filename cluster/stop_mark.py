"""A request to stop, told to the workers of a pass by a file beside their output."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence

from cluster.shards import attempts_at, finished_shards
from cluster.stopping import STOP, signal_main
from cluster.storage import Storage

log = logging.getLogger("dealrec.cluster")

_MARKS = "_stop"
_POLL_SECONDS = 0.5
#: Shorter than the grace that our pods are given; a shard that takes longer is begun again by the next run.
_PATIENCE = 100.0


@contextlib.contextmanager
def stop_mark(out: Storage, mark: str, patience: float = _PATIENCE) -> Iterator[None]:
    """Defer a request to stop over a block, and put up its mark when it comes.

    The mark is left there: workers may have a call waiting that they come to after the driver has left. When the block
    has not come to its end `patience` seconds later, it is left at once.
    """
    with STOP.deferred() as told:
        over = threading.Event()
        thread = threading.Thread(target=_put_up, args=(out, mark, told, over, patience), name="stop-mark", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            told.set()
            thread.join()


def new_stop_mark(out: Storage) -> str:
    """The name of a pass's own mark: what an earlier pass was told does not hold for this one.

    The marks of earlier passes are taken down; storage may go on showing them for a while.
    """
    out.delete(_MARKS)
    return f"{_MARKS}/{secrets.token_hex(8)}"


def _put_up(out: Storage, mark: str, told: threading.Event, over: threading.Event, patience: float) -> None:
    told.wait()
    if not STOP.requested:
        return
    log.info("Stopping: what is in hand is finished first. A second signal stops at once.")
    try:
        out.write_bytes(mark, b"")
    except OSError as error:
        # The workers are not told; the driver leaves all the same, after its time.
        log.warning("The request to stop cannot be written to %s: %s", out.uri, error)
    if not over.wait(patience):
        log.warning("A shard takes longer than %.0f s; the next run begins it again.", patience)
        signal_main()


def stopping(out: Storage, mark: str) -> bool:
    """In a worker: whether no shard is to be begun any more."""
    return out.exists(mark)


class ShardsInHand:
    """The shards of a pass that were begun in it and are not finished.

    Parameters
    ----------
    out, indices : of the pass, before it begins: what an earlier run left begun is in nobody's hand.

    Attributes
    ----------
    earlier_attempts : how often earlier runs have begun the shards.
    """

    def __init__(self, out: Storage, indices: Sequence[int]) -> None:
        self._out = out
        self._indices = indices
        self.earlier_attempts = attempts_at(out, indices)

    def now(self) -> set[int]:
        """Their numbers."""
        attempts = attempts_at(self._out, self._indices)
        begun = {index for index, attempt in attempts.items() if attempt != self.earlier_attempts.get(index)}
        return begun - set(finished_shards(self._out, self._indices))

    def wait(self) -> None:
        """Until there is none, but no longer than a pod has to end."""
        end = time.monotonic() + _PATIENCE
        while self.now() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
