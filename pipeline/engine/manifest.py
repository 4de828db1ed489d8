"""The file that makes a stage complete: written last, in one step."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict

from cluster.digest import digest, json_digest
from cluster.project_root import CHECKOUT
from cluster.storage import Storage

MANIFEST = "_manifest.json"
BEGUN = "_begun.json"
_VERSIONED = ("ray", "torch", "transformers", "peft", "deepspeed", "pyarrow", "numpy")


class OutputRow(TypedDict):
    """An output file of a stage: its name, its size in bytes and the digest of its bytes."""

    name: str
    size: int
    digest: str


class Environment(TypedDict):
    """The versions of Python and of the packages, and the git commit of the code if it is known."""

    python: str
    versions: dict[str, str]
    commit: str | None


@dataclass(frozen=True)
class Fingerprint:
    """What decides a stage's result: its part of the config, its inputs and the version of its code."""

    config: Mapping[str, object]
    inputs: Mapping[str, object]
    version: int

    @property
    def digest(self) -> str:
        return json_digest(asdict(self))


@dataclass(frozen=True)
class Manifest:
    """A complete stage.

    Attributes
    ----------
    stage, fingerprint : the name of the stage, and what its result depends on.
    content : a hash over the names and bytes of the outputs, on which later stages depend.
    outputs : one row per file: name, size, digest.
    facts : what the stage reports: counts, losses, residuals, shard attempts.
    seconds : the wall time over all attempts.
    attempts : how often the stage was begun.
    driver_memory : the driver's peak memory in bytes, from its start to the end of the stage; 0 if unknown.
    """

    stage: str
    fingerprint: Fingerprint
    content: str
    outputs: Sequence[OutputRow]
    facts: Mapping[str, Any]
    seconds: float
    attempts: int
    driver_memory: int = 0
    finished: float = field(default_factory=time.time)
    environment: Mapping[str, object] = field(default_factory=dict)

    def write(self, folder: Storage) -> None:
        folder.write_json(MANIFEST, asdict(self) | {"digest": self.fingerprint.digest})


def read_manifest(folder: Storage) -> Manifest | None:
    """Read the manifest of a complete stage; None if there is none."""
    if not folder.exists(MANIFEST):
        return None
    values = folder.read_json(MANIFEST)
    values.pop("digest")
    return Manifest(**values | {"fingerprint": Fingerprint(**values["fingerprint"])})


@dataclass(frozen=True)
class Begun:
    """A stage that has begun and may not be complete: its fingerprint, its attempts and its seconds so far."""

    fingerprint: Fingerprint
    attempts: int
    seconds: float

    def write(self, folder: Storage) -> None:
        folder.write_json(BEGUN, asdict(self))


def read_begun(folder: Storage) -> Begun | None:
    if not folder.exists(BEGUN):
        return None
    values = folder.read_json(BEGUN)
    return Begun(Fingerprint(**values["fingerprint"]), values["attempts"], values["seconds"])


def list_outputs(folder: Storage, subfolders: Sequence[str]) -> list[OutputRow]:
    """Return name, size and digest of every output file of a stage, without the engine's own files."""
    rows: list[OutputRow] = []
    for sub in ("", *subfolders):
        for name in folder.list(sub):
            if name.startswith("_"):
                continue
            path = f"{sub}/{name}" if sub else name
            data = folder.read_bytes(path)
            rows.append({"name": path, "size": len(data), "digest": digest(data)})
    return rows


def environment() -> Environment:
    """Return versions and the git commit of the code, which are recorded but never compared."""
    versions = {name: importlib.metadata.version(name) for name in _VERSIONED}
    return {"python": platform.python_version(), "versions": versions, "commit": _git_commit()}


def _git_commit() -> str | None:
    if CHECKOUT is None:
        # An installation may lie inside somebody else's repository.
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
