"""Progress in a notebook: one display that is updated, in place of lines that pile up."""

from __future__ import annotations

import io
import sys
from typing import Any, Protocol

#: What `LineProgress` writes before a line that replaces the last one.
_REWRITE = "\r\x1b[2K"


class DisplayHandle(Protocol):
    """An output of a notebook cell, as IPython hands it out."""

    def update(self, obj: Any, **options: Any) -> None: ...


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. IPython is not imported for the question."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


class NotebookScreen(io.TextIOBase):
    """A stream that shows what is written to it in one output of the running cell.

    A line of progress replaces the one before, as in a terminal; other lines stay above it.
    """

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._line = ""
        self._handle: DisplayHandle | None = None

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.startswith(_REWRITE):
            self._line = text.removeprefix(_REWRITE)
        elif text == "\n":
            self._kept, self._line = [*self._kept, self._line], ""
        else:
            self._kept += text.rstrip("\n").split("\n")
        self._show("\n".join([*self._kept, self._line] if self._line else self._kept))
        return len(text)

    def _show(self, text: str) -> None:
        content = {"text/plain": text}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
