"""Importing libraries without what they print in a notebook."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Show neither warnings nor log lines below a warning within the block.

    Ray and tqdm ask for widgets as they are imported by the kernel of a notebook. They set up their loggers themselves,
    so no level that is set before would hold.
    """
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.INFO))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
