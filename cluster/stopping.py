"""SIGTERM to the driver: finish what is in hand, keep what is done, and leave so that the same command goes on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The driver was told to stop. No `Exception`, so that what handles errors lets it through.

    Ray's waiting calls are left at once for a `KeyboardInterrupt` and nothing else.
    """


class StopSignal:
    """Whether SIGTERM has come, and who may finish something first.

    Outside of `deferred` the signal raises `Stopped` in the main thread at once. Inside, the first one is only told
    to those who defer it: they finish and call `check`. A second signal raises in any case.
    """

    def __init__(self) -> None:
        self.requested = False
        self._listening = False
        self._leaving = False
        self._deferring: list[threading.Event] = []

    def check(self) -> None:
        """Raise `Stopped` if the signal has come."""
        if self.requested:
            raise Stopped("SIGTERM")

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Listen to SIGTERM for the length of a block of the main thread; elsewhere do nothing.

        To be entered after Ray was initialised, which sets a handler of its own.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.requested = False
        before = signal.signal(signal.SIGTERM, self._receive)
        self._listening = True
        try:
            yield
        except KeyboardInterrupt as interrupt:
            # Ray raises one of its own in place of ours.
            if self.requested and not isinstance(interrupt, Stopped):
                raise Stopped("SIGTERM") from interrupt
            raise
        finally:
            self._listening = self._leaving = False
            signal.signal(signal.SIGTERM, before)
            self.requested = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[threading.Event]:
        """A block that finishes what it has in hand once the event is set, then calls `check`."""
        told = threading.Event()
        self._deferring.append(told)
        try:
            yield told
        finally:
            self._deferring.remove(told)

    def leave(self) -> bool:
        """From another thread: raise a `KeyboardInterrupt` in the main one at once, whatever it waits for or defers.

        It is no request to stop. False where nothing is `handled`, so that nothing can be raised.
        """
        if not self._listening:
            return False
        self._leaving = True
        signal_main()
        return True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._leaving:
            self._leaving = False
            raise KeyboardInterrupt
        again, self.requested = self.requested, True
        if again or not self._deferring:
            raise Stopped("SIGTERM")
        for told in self._deferring:
            # Setting it again could wait for the very lock that the interrupted thread holds in setting it.
            if not told.is_set():
                told.set()


def signal_main() -> None:
    """SIGTERM to the main thread, as from outside: nothing else wakes it while it waits for Ray."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


#: The process has one; so has its signal.
STOP = StopSignal()
