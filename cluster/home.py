"""A home directory for libraries that insist on one."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Give this process, and those that it starts, a home and a user's name where there are none.

    A container that runs under any number has neither: Ray Train then cannot be imported, and torch finds no folder for
    what it compiles. A home that is there is left, since caches may be read in it; where it cannot be written, Triton,
    which writes there without asking, gets another folder. To be called before these libraries are imported.
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
    """A folder that is the same in the next run, so that what is compiled once is found again."""
    folder = Path(tempfile.gettempdir(), f"cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # Anybody may have made it before, where others can write.
    return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="cache-"))
