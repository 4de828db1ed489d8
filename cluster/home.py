"""A home directory for libraries that require one."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Give this process and its children a home directory and a user name if they have none.

    A container that runs under an arbitrary user id has neither: Ray Train then fails to import, and torch finds no
    folder for compiled code. An existing home is kept, since caches may be read from it. If it is not writable,
    Triton, which writes there regardless, gets another folder. Call this before importing these libraries.
    """
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = str(_private_folder())
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ.setdefault("TRITON_CACHE_DIR", str(_private_folder() / "triton"))


def _private_folder() -> Path:
    """Return a folder that stays the same between runs, so that compiled code is found again."""
    folder = Path(tempfile.gettempdir(), f"cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # In a folder that others can write to, someone else may have created it.
    return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="cache-"))
