"""Results on standard output."""

from __future__ import annotations

import sys


class ReaderLeftError(Exception):
    """Nobody reads standard output any more, as when `head` has seen enough."""


def write_now(text: str) -> None:
    """Write a text and flush it. Raises `ReaderLeftError` when the reader has left."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderLeftError from error
