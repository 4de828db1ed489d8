"""Handling of Ray calls made after the session, for instance by a destructor: start no Ray, print nothing."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from types import TracebackType

import ray
from ray._private import auto_init_hook

log = logging.getLogger("dealrec.cluster")

_RAY = str(Path(ray.__file__).parent)
_unraisable, _in_thread = sys.unraisablehook, threading.excepthook


def forbid_auto_start() -> None:
    """Make calls outside a session fail, and log their errors at debug level only.

    By default, any call of Ray's API starts or joins a cluster. A Ray object that is collected after the session would
    do so behind the user's back, and then ask that cluster for something it does not have. Processes that have not yet
    imported Ray learn the same from `RAY_ENABLE_AUTO_CONNECT`.
    """
    auto_init_hook.enable_auto_connect = False
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_in_thread


def _log_unraisable(fault: sys.UnraisableHookArgs) -> None:
    if _is_late(fault.exc_traceback):
        log.debug("%r in a destructor, after Ray was shut down", fault.exc_value)
    else:
        _unraisable(fault)


def _log_in_thread(fault: threading.ExceptHookArgs) -> None:
    if _is_late(fault.exc_traceback):
        log.debug("%r in thread %s, after Ray was shut down", fault.exc_value, fault.thread)
    else:
        _in_thread(fault)


def _is_late(traceback: TracebackType | None) -> bool:
    """Return whether the error was raised in Ray while no session is open."""
    if ray.is_initialized():
        return False
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(_RAY):
            return True
        traceback = traceback.tb_next
    return False
