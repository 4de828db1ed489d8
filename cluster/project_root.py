"""Where the project's packages lie, and whether that is a checkout or an installation."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

#: The folder that holds the packages: a checkout, or the site-packages of an installation.
PROJECT_ROOT = Path(__file__).resolve().parent.parent
#: The top-level packages of the project.
PACKAGES = ("cluster", "dealrec", "pipeline", "scoring", "training")


def checkout_at(root: Path) -> Path | None:
    """Return `root` if it is a checkout of this project, None if it is not.

    The name in `pyproject.toml` decides: some packages leave a file of that name in site-packages.
    """
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return root if project.get("project", {}).get("name") == "dealrec" else None


#: The checkout: what a job ships, and what workers of an embedded Ray import first. None in an installation, whose
#: folder also holds everybody else's packages, and which the interpreter finds by itself.
CHECKOUT = checkout_at(PROJECT_ROOT)


def shadowing_file(folders: Iterable[str]) -> str | None:
    """Return the first file in `folders` that Python would import in place of a package of this project, or None."""
    for folder in folders:
        if Path(folder).resolve() == PROJECT_ROOT:
            continue
        for name in PACKAGES:
            found = PathFinder.find_spec(name, [folder])
            if (
                found is not None
                and found.origin is not None
                and Path(found.origin).resolve().parent.parent != PROJECT_ROOT
            ):
                return found.origin
    return None
