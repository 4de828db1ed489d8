"""Logging for a person at a terminal or in a job's log: our lines, without third-party noise."""

from __future__ import annotations

import logging
import sys

from cluster.masking import MaskingFormatter


def configure_logging(verbose: bool = False) -> None:
    """Show the project's own lines on stderr; `verbose` adds their times, areas and debug lines."""
    handler = logging.StreamHandler(sys.stderr)
    pattern = "%(asctime)s %(name)s %(message)s" if verbose else "%(message)s"
    handler.setFormatter(MaskingFormatter(pattern))
    root = logging.getLogger("dealrec")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
