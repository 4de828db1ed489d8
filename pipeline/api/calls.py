"""The frame around every call of the API: it leaves the process as it found it, and prints only what is asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO, cast

from cluster.errors import UserError, user_error_in
from cluster.home import ensure_home
from cluster.masking import MaskingFormatter
from cluster.screen import screen
from pipeline.api.notebook import NotebookScreen, in_notebook
from pipeline.api.python_wording import for_python
from pipeline.api.quiet_imports import quiet_imports
from scoring.exceptions import ScoringError

#: Whether the command line calls: it has settled logging, progress and the process for itself, and reads its own words.
_BY_COMMAND: ContextVar[bool] = ContextVar("dealrec_by_command", default=False)
#: Loggers of libraries that are quieted while a call runs.
_LIBRARIES = ("ray", "deepspeed", "DeepSpeed", "transformers", "urllib3", "huggingface_hub")


@contextlib.contextmanager
def by_command() -> Iterator[None]:
    """Mark the calls within the block as those of the command line."""
    token = _BY_COMMAND.set(True)
    try:
        yield
    finally:
        _BY_COMMAND.reset(token)


@contextlib.contextmanager
def api_call(progress: bool | None = None) -> Iterator[None]:
    """Run one call of the API.

    Signal handlers, environment variables, warning filters and log levels are restored at its end.

    Parameters
    ----------
    progress : True shows progress, in a notebook as a display that is updated and elsewhere as lines on standard error;
        False shows none; None shows it in a notebook alone.

    Raises `UserError`, in the words of the API, for every fault that the user can mend, wherever it came up.
    """
    if _BY_COMMAND.get():
        yield
        return
    with python_faults(), _process_restored(), _progress_shown(progress), _ray_of_the_host():
        ensure_home()
        yield


@contextlib.contextmanager
def python_faults() -> Iterator[None]:
    """Raise the faults that the user can mend as `UserError`, with arguments named in place of options."""
    try:
        yield
    except ScoringError as error:
        raise UserError(for_python(str(getattr(error, "cause", error)))) from error
    except Exception as error:
        fault = user_error_in(error)
        if fault is None or _BY_COMMAND.get():
            raise
        if fault is error:
            fault.message, fault.remedy = for_python(fault.message), for_python(fault.remedy)
            raise
        raise UserError(for_python(fault.message), for_python(fault.remedy)) from error


@contextlib.contextmanager
def _process_restored() -> Iterator[None]:
    environment = dict(os.environ)
    levels = {name: logger.level for name, logger in _library_loggers().items()}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    unraisable, in_thread = sys.unraisablehook, threading.excepthook
    try:
        with warnings.catch_warnings():
            yield
    finally:
        # A session replaces these hooks to drop what Ray's objects say once it is shut down. Python's own are not
        # missed, those of the host are.
        if unraisable is not sys.__unraisablehook__:
            sys.unraisablehook = unraisable
        if in_thread is not threading.__excepthook__:
            threading.excepthook = in_thread
        for name, logger in _library_loggers().items():
            logger.setLevel(levels.get(name, logging.NOTSET))
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        if handler is not None:
            # Ray puts a handler of its own in its place and leaves it there.
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _ray_of_the_host() -> Iterator[None]:
    """Set up Ray Data for our passes where the host has connected Ray, and restore what the host had set."""
    if "ray" not in sys.modules:
        yield
        return
    import ray

    if not ray.is_initialized():
        yield
        return
    import ray.data

    from cluster.session import configure_ray_data

    context = ray.data.DataContext.get_current()
    names = ("enable_progress_bars", "print_on_execution_start", "execution_no_progress_timeout_s")
    before = {name: getattr(context, name) for name in names}
    configure_ray_data()
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _library_loggers() -> dict[str, logging.Logger]:
    known = logging.getLogger().manager.loggerDict
    return {
        name: logger
        for name, logger in known.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in _LIBRARIES
    }


@contextlib.contextmanager
def _progress_shown(asked: bool | None) -> Iterator[None]:
    notebook = in_notebook()
    if notebook:
        with quiet_imports():
            importlib.import_module("cluster.session")
    if not (notebook if asked is None else asked):
        with screen(_Nowhere()), _not_printed():
            yield
        return
    stream = cast("TextIO", NotebookScreen()) if notebook else sys.stderr
    with screen(stream), _log_shown(stream):
        yield


class _Nowhere(io.StringIO):
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def _not_printed() -> Iterator[None]:
    """Keep Python from printing our warnings where the host has no handler. A host's handlers see all of them."""
    with _handler(logging.NullHandler()):
        yield


@contextlib.contextmanager
def _log_shown(stream: TextIO) -> Iterator[None]:
    """Show our log lines beside the progress, unless the host shows them already."""
    logger = logging.getLogger("dealrec")
    if logger.hasHandlers():
        yield
        return
    level = logger.level
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MaskingFormatter("%(message)s"))
    try:
        with _handler(handler):
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _handler(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("dealrec")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
