"""A forwarded port that breaks when a test says so."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class BreakingProxy:
    """Forwards connections to another port of this machine.

    Attributes
    ----------
    address : address to use in place of the target's.
    refusals : number of further connections to close as soon as they are made.
    """

    def __init__(self, target: str) -> None:
        self._target = (str(urlsplit(target).hostname), int(urlsplit(target).port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()
        self.refusals = 0
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, refusals: int) -> int:
        """Break all connections and refuse the next ones. Return the number of connections broken."""
        self.refusals = refusals
        cut, self._open = self._open, set()
        for each in cut:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        return len(cut) // 2

    def silence(self) -> int:
        """Silently drop whatever still arrives over the current connections. Return their number."""
        self._silent |= self._open
        return len(self._open) // 2

    def close(self) -> None:
        self._listener.close()
        self.cut(0)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                if self.refusals:
                    self.refusals -= 1
                    inner.close()
                    continue
                outer = socket.create_connection(self._target)
                self._open |= {inner, outer}
                for source, sink in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source not in self._silent:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            if source not in self._silent:
                sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def breaking_proxy(target: str) -> Iterator[BreakingProxy]:
    """Run a proxy to the http address of `target` during a block."""
    proxy = BreakingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
