"""The folder that a job ships: the checkout, or a copy of the installed packages alone."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cluster.project_root import CHECKOUT, PACKAGES, PROJECT_ROOT


@contextlib.contextmanager
def job_package(root: Path = PROJECT_ROOT, checkout: Path | None = CHECKOUT) -> Iterator[Path]:
    """Yield the working directory that a job is given.

    A checkout is shipped as it is, including the user's own modules in it. An installation lies in site-packages,
    among gigabytes of other packages that the cluster has: its own packages are copied to a folder that lasts as long
    as the block.

    Parameters
    ----------
    root : the folder that holds the packages.
    checkout : the same folder if it is a checkout, None if it is an installation.
    """
    if checkout is not None:
        yield checkout
        return
    with tempfile.TemporaryDirectory(prefix="dealrec-job-") as folder:
        for name in PACKAGES:
            shutil.copytree(root / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)
