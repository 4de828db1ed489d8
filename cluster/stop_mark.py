"""Telling the workers of a pass to stop, by a file beside their output."""

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
#: Shorter than the grace period of our pods. The next run restarts a shard that takes longer.
_PATIENCE = 100.0


@contextlib.contextmanager
def stop_mark(out: Storage, mark: str, patience: float = _PATIENCE) -> Iterator[None]:
    """Defer a request to stop during a block, and write its mark when it arrives.

    The mark stays after the block: a worker may take a queued call after the driver has left. A block that does not
    finish within `patience` seconds of the request is interrupted.
    """
    with STOP.deferred() as told:
        over = threading.Event()
        thread = threading.Thread(
            target=_write_mark, args=(out, mark, told, over, patience), name="stop-mark", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            told.set()
            thread.join()


def new_stop_mark(out: Storage) -> str:
    """Return the name of a mark for one pass, so that the marks of earlier passes do not apply to it.

    Earlier marks are deleted, although storage may keep listing them for a while.
    """
    out.delete(_MARKS)
    return f"{_MARKS}/{secrets.token_hex(8)}"


def _write_mark(out: Storage, mark: str, told: threading.Event, over: threading.Event, patience: float) -> None:
    told.wait()
    if not STOP.requested:
        return
    log.info("Stopping after the shards in hand are finished. A second signal stops at once.")
    try:
        out.write_bytes(mark, b"")
    except OSError as error:
        # Workers are then not told, but the driver still leaves after its grace period.
        log.warning("Cannot write the request to stop to %s: %s", out.uri, error)
    if not over.wait(patience):
        log.warning("A shard takes longer than %.0f s. The next run will restart it.", patience)
        signal_main()


def stop_requested(out: Storage, mark: str) -> bool:
    """Return, in a worker, whether no further shard is to be started."""
    return out.exists(mark)


class ShardsInHand:
    """The shards that this pass has started and not finished.

    Parameters
    ----------
    out, indices : the pass's output and shards, given before it starts: shards that an earlier run left unfinished
        are not in hand.

    Attributes
    ----------
    earlier_attempts : number of attempts that earlier runs made at each shard.
    """

    def __init__(self, out: Storage, indices: Sequence[int]) -> None:
        self._out = out
        self._indices = indices
        self.earlier_attempts = attempts_at(out, indices)

    def now(self) -> set[int]:
        """Return their indices."""
        attempts = attempts_at(self._out, self._indices)
        begun = {index for index, attempt in attempts.items() if attempt != self.earlier_attempts.get(index)}
        return begun - set(finished_shards(self._out, self._indices))

    def wait(self) -> None:
        """Wait until no shard is in hand, but no longer than a pod's grace period."""
        end = time.monotonic() + _PATIENCE
        while self.now() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
