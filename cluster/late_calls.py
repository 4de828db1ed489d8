"""Calls of Ray that come when no session is open, as of a destructor: they start no Ray, and print nothing."""

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
    """Have calls without a session fail, and their errors be logged for developers alone.

    By default Ray starts a cluster, or joins one, for any call of its API. Whatever object of Ray is collected after
    the session would do so behind the user's back, and fail at what it asks of a cluster that does not know it.
    `RAY_ENABLE_AUTO_CONNECT` says the same to processes in which Ray is not imported yet.
    """
    auto_init_hook.enable_auto_connect = False
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_in_thread


def _log_unraisable(fault: sys.UnraisableHookArgs) -> None:
    if _is_late(fault.exc_traceback):
        log.debug("%r, of a destructor, after Ray was shut down", fault.exc_value)
    else:
        _unraisable(fault)


def _log_in_thread(fault: threading.ExceptHookArgs) -> None:
    if _is_late(fault.exc_traceback):
        log.debug("%r, of the thread %s, after Ray was shut down", fault.exc_value, fault.thread)
    else:
        _in_thread(fault)


def _is_late(traceback: TracebackType | None) -> bool:
    """Whether it comes of Ray, and no session is open."""
    if ray.is_initialized():
        return False
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(_RAY):
            return True
        traceback = traceback.tb_next
    return False
