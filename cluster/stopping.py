"""Handling of SIGTERM in the driver: finish the work in hand and exit, so that the same command can continue."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The driver was told to stop.

    It is not an `Exception`, so error handlers let it through. Ray's blocking calls return at once only for a
    `KeyboardInterrupt`.
    """


class StopSignal:
    """Whether SIGTERM has arrived, and which blocks may finish something first.

    Outside `deferred`, the signal raises `Stopped` in the main thread at once. Inside, the first signal only sets the
    events of the deferring blocks, which finish their work and call `check`. A second signal always raises.
    """

    def __init__(self) -> None:
        self.requested = False
        self._listening = False
        self._interrupting = False
        self._deferring: list[threading.Event] = []

    def check(self) -> None:
        """Raise `Stopped` if the signal has arrived."""
        if self.requested:
            raise Stopped("SIGTERM")

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle SIGTERM during a block in the main thread. In another thread, do nothing.

        Enter it after initialising Ray, which installs a handler of its own.
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
            # Ray replaces our exception with its own.
            if self.requested and not isinstance(interrupt, Stopped):
                raise Stopped("SIGTERM") from interrupt
            raise
        finally:
            self._listening = self._interrupting = False
            signal.signal(signal.SIGTERM, before)
            self.requested = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[threading.Event]:
        """Defer the signal during a block, which finishes its work once the event is set and then calls `check`."""
        told = threading.Event()
        self._deferring.append(told)
        try:
            yield told
        finally:
            self._deferring.remove(told)

    def interrupt_main(self) -> bool:
        """Raise `KeyboardInterrupt` in the main thread from another one, whatever it waits for or defers.

        This is not a request to stop. Return False if the signal is not `handled`, so that nothing can be raised.
        """
        if not self._listening:
            return False
        self._interrupting = True
        signal_main()
        return True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._interrupting:
            self._interrupting = False
            raise KeyboardInterrupt
        again, self.requested = self.requested, True
        if again or not self._deferring:
            raise Stopped("SIGTERM")
        for told in self._deferring:
            # Setting it again could wait for the lock that the interrupted thread holds while setting it.
            if not told.is_set():
                told.set()


def signal_main() -> None:
    """Send SIGTERM to the main thread, as if from outside: nothing else wakes it while it waits for Ray."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


#: A process has one SIGTERM handler, so there is one instance.
STOP = StopSignal()
