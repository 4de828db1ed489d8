"""Identify what a stage's result depends on, in a form that can be compared and explained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import pyarrow.fs as pafs

from cluster.storage import is_remote, open_filesystem
from pipeline.engine.config import Config


class SizeAndHash(TypedDict):
    """The size of a file in bytes, and a hash of its content."""

    size: int
    hash: str


class ModelIdentity(TypedDict, total=False):
    """A model's name on a hub; or the name, size and hash of its file; or those of the files in its folder."""

    name: str
    file: str
    size: int
    hash: str
    files: dict[str, SizeAndHash]


_BLOCK, _BLOCKS = 1 << 16, 128


def config_part(config: Config, keys: Sequence[str]) -> dict[str, object]:
    """Return the chosen sections or keys of a configuration, flattened to "section.key": value.

    A key that is left out at its default, because it is younger than some runs, has no entry.
    """
    whole = config.model_dump(mode="json", by_alias=True)
    part: dict[str, object] = {}
    for key in keys:
        section, _, name = key.partition(".")
        values = {inner: value for inner, value in whole[section].items() if name in ("", inner)}
        part |= {f"{section}.{inner}": value for inner, value in values.items()}
    return dict(sorted(part.items()))


def differing_keys(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Describe each key whose value differs, as "key was A, is B"; for files, name those that differ."""
    missing = "not set"
    found = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key, missing), new.get(key, missing)
        if before != after:
            files = _differing_files(before, after) if isinstance(before, list) and isinstance(after, list) else ""
            found.append(f"{key} {files or f'was {before!r}, is {after!r}'}")
    return found


def _differing_files(old: Sequence[object], new: Sequence[object]) -> str:
    """Describe how two lists of `file_identities` differ; "" for other lists."""
    before, after = _by_name(old), _by_name(new)
    if before is None or after is None:
        return ""
    kinds = {
        "new": sorted(set(after) - set(before)),
        "gone": sorted(set(before) - set(after)),
        "changed": sorted(name for name in set(before) & set(after) if before[name] != after[name]),
    }
    parts = [f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names]
    # Files with the same name in several folders can only be counted.
    return f"has other files: {', '.join(parts) or f'{len(old)} before, {len(new)} now'}"


def _by_name(entries: Sequence[object]) -> dict[str, object] | None:
    """Return file identities by the name of their file; None for other lists."""
    named: dict[str, object] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "name" not in entry:
            return None
        named[str(entry["name"])] = entry
    return named


def _first(names: Sequence[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")


def file_identities(files: Sequence[str]) -> list[dict[str, object]]:
    """Return name, size and content hash of local files; name, size and modification time of remote ones.

    The folder is left out, so that a log may move.
    """
    identities: list[dict[str, object]] = []
    for file in sorted(files):
        if is_remote(file):
            filesystem, path = open_filesystem(file)
            info = filesystem.get_file_info(path)
            changed = info.mtime_ns if info.type == pafs.FileType.File else None
            identities.append({"name": Path(path).name, "size": info.size, "changed": changed})
        else:
            identities.append({"name": Path(file).name, "size": Path(file).stat().st_size, "hash": _hash_file(file)})
    return identities


def model_identity(model: str) -> ModelIdentity:
    """Identify an LLM by its name on a hub, or by name, size and hash of its local files; large ones are sampled.

    Models of one architecture have files with the same names and sizes, so these do not tell them apart.
    """
    path = Path(model)
    if path.is_file():
        return {"file": path.name, **_size_and_hash(path)}
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
        return {"files": {entry.name: _size_and_hash(entry) for entry in files}}
    return {"name": model}


def code_identity(module: str) -> dict[str, str]:
    """Return name and hash of a module's file without importing it; no hash if there is no file."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return {"module": module}
    return {"module": module, "hash": _hash_file(found.origin)}


def _size_and_hash(path: Path) -> SizeAndHash:
    """Return size and hash of a file; a large file is hashed by blocks spread evenly over it.

    Tuning changes all weights, so some blocks suffice.
    """
    size = path.stat().st_size
    if size <= _BLOCK * _BLOCKS:
        return {"size": size, "hash": _hash_file(str(path))}
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        for place in range(_BLOCKS):
            stream.seek(place * (size - _BLOCK) // (_BLOCKS - 1))
            state.update(stream.read(_BLOCK))
    return {"size": size, "hash": state.hexdigest()}


def _hash_file(file: str) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
