"""Where progress lines go: standard error, unless a caller names another stream."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

_SCREEN: ContextVar[TextIO | None] = ContextVar("dealrec_screen", default=None)


def current_screen() -> TextIO:
    """Return the stream that progress is written to now."""
    return _SCREEN.get() or sys.stderr


@contextlib.contextmanager
def screen(stream: TextIO) -> Iterator[None]:
    """Write the progress that starts within the block to `stream`."""
    token = _SCREEN.set(stream)
    try:
        yield
    finally:
        _SCREEN.reset(token)
