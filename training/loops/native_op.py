"""The one thing DeepSpeed compiles on a machine without a GPU: its shared-memory collective.

It takes a minute. `python -m training.loops.native_op` does it ahead of the first fine-tuning.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import torch

from cluster.errors import UserError

log = logging.getLogger("dealrec.finetune")


def compiler_missing() -> str | None:
    """Return the program that this machine lacks to compile the operation, or None."""
    if shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None:
        return "g++"
    return None


def compiler_error(missing: str, node: str) -> tuple[str, str]:
    """Return the message and remedy of a `UserError` about a missing compiler."""
    return (
        f"{missing} is missing on {node}; DeepSpeed compiles its CPU collective with it.",
        "Install it (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++) or fine-tune on GPUs.",
    )


def require_compiler() -> None:
    """Raise `UserError` that names g++ if this machine has no C++ compiler."""
    missing = compiler_missing()
    if missing is not None:
        raise UserError(*compiler_error(missing, "this machine"))


def build_collective() -> None:
    """Compile and load the operation if this processor can use it. Needs a compiler."""
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None and builder.is_compatible():
        build(builder.load)


def build_ahead() -> None:
    """Compile the operation if this machine will need it, or log what is missing for that."""
    if torch.cuda.is_available():
        return
    missing = compiler_missing()
    if missing is not None:
        log.warning("%s %s", *compiler_error(missing, "this machine"))
        return
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        build_collective()


def build(load: Callable[[], object]) -> None:
    """Compile and load the operation with `load`, one process of the machine at a time.

    torch marks a build in progress with a file. The file stays when the process is killed, and other processes
    then wait forever. Here a lock that the kernel drops with its holder serialises the builds, so a mark found under
    the lock is stale and is removed.
    """
    folder = cache_folder()
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    _put_tools_on_path()
    with _machine_lock(folder / "build.lock"):
        for mark in folder.glob("*/lock"):
            mark.unlink(missing_ok=True)
        load()


def cache_folder() -> Path:
    """Return a writable folder that outlives the process.

    It is of this version of torch, this environment and this processor.

    The build names the headers of the environment by path, so another environment would build it again. It uses every
    instruction of this processor, so another node that shares the folder may not be able to run it.
    """
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    if given:
        if _writable(Path(given)):
            return Path(given)
        raise UserError(
            f"TORCH_EXTENSIONS_DIR is {given}, where DeepSpeed compiles, but this process cannot write there.",
            "Set it to a writable folder, or remove it.",
        )
    environment = blake2b(f"{sys.prefix}\n{_instructions()}".encode(), digest_size=4).hexdigest()
    # `~` stays as it is for a user without a home directory, as in a container that runs under any user id.
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    for root in (home, Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"):
        folder = root / "dealrec" / f"torch-{torch.__version__}-{environment}"
        if root.is_absolute() and _writable(folder):
            return folder
    raise UserError(
        f"DeepSpeed needs a folder to compile in, but neither {home} nor {tempfile.gettempdir()} can be written.",
        "Set TORCH_EXTENSIONS_DIR to a writable folder.",
    )


def _writable(folder: Path) -> bool:
    """Tell whether the folder exists or can be made, and this process can write to it."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def computes_in_half() -> bool:
    """Tell whether this processor computes with float16."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    except (AttributeError, RuntimeError):
        return False


def _instructions() -> str:
    """Return the processor's instruction sets, as Linux lists them."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return ""


def _put_tools_on_path() -> None:
    """Put our own package's ninja first: another version hashes a command differently, and builds again."""
    import ninja

    path = os.environ.get("PATH", "")
    if path.split(os.pathsep)[0] != ninja.BIN_DIR:
        os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, path])
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        os.environ["CXX"] = "g++"


@contextlib.contextmanager
def _machine_lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    build_ahead()
