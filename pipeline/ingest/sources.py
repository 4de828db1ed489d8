"""Find the files that a path, directory, glob or URI stands for."""

from __future__ import annotations

import fnmatch
import logging
import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.storage import is_remote, open_filesystem

log = logging.getLogger("dealrec.ingest")

Format = Literal["parquet", "csv", "tsv", "jsonl", "recbole"]

_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".inter": "recbole",
    ".item": "recbole",
}
_COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".bz2": "bz2", ".zst": "zstd"}
_PICKLES = (".pkl", ".pickle", ".pck", ".pt", ".pth", ".joblib", ".dill")
_ACCEPTED = "Give Parquet, CSV, TSV, JSON Lines or RecBole atomic files (.inter, .item)"
_GLOB = "*?["

PICKLE_REMEDY = "Pickles run code when they are read, so none is: save the table as Parquet (DataFrame.to_parquet)."


@dataclass(frozen=True)
class DataFile:
    """One input file.

    Attributes
    ----------
    filesystem, path : how Arrow opens it.
    name : the path or URI as the user would write it, for messages.
    compression : gzip, xz, bz2, zstd, or None.
    """

    filesystem: pafs.FileSystem
    path: str
    name: str
    format: Format
    compression: str | None
    size: int


def find_files(location: str, key: str, skip_suffix: str = "") -> list[DataFile]:
    """The data files that `location` names, sorted by path, all of one format.

    Parameters
    ----------
    location : local path, directory (searched recursively), glob (`*`, `?`, `[]`, `**`) or URI.
    key : the configuration key it came from, for messages.
    skip_suffix : extension that does not count in a directory, where RecBole keeps the log beside its items.

    Raises `UserError` when nothing is there, or what is there is a pickle, of an unknown kind or of several.
    """
    remote = is_remote(location)
    filesystem, root = open_filesystem(location if remote else os.path.expanduser(location))
    scheme = location.split("://")[0] + "://" if remote else ""
    try:
        return _find(_Place(filesystem, root, scheme, key, location), skip_suffix)
    except OSError as error:
        raise UserError(
            f"{key}: {location} cannot be listed ({str(error).splitlines()[0]}).",
            "Mend its permissions, or the credentials of the store.",
        ) from error


@dataclass(frozen=True)
class _Place:
    """Where to look, and how the user called it."""

    filesystem: pafs.FileSystem
    root: str
    scheme: str
    key: str
    location: str


def _find(place: _Place, skip_suffix: str) -> list[DataFile]:
    filesystem, root, key = place.filesystem, place.root, place.key
    if any(mark in root for mark in _GLOB) and filesystem.get_file_info(root).type == pafs.FileType.NotFound:
        found = _expand(filesystem, root)
        if not found:
            raise UserError(f"{key}: no file matches {place.location}.", "Correct the pattern.")
    else:
        found = [filesystem.get_file_info(root)]
        if found[0].type == pafs.FileType.NotFound:
            raise UserError(f"{key}: {place.location} does not exist.", "Correct the path.")
    files: list[DataFile] = []
    for info in found:
        if info.type == pafs.FileType.Directory:
            files += _in_directory(place, info.path, skip_suffix)
        else:
            files.append(_data_file(place, info))
    formats = {file.format: file.name for file in files}
    if len(formats) > 1:
        raise UserError(
            f"{key}: {place.location} mixes formats ({', '.join(sorted(formats.values()))}).",
            "Name the files of one format with a glob.",
        )
    once = {file.path: file for file in files}
    return [once[path] for path in sorted(once)]


def _suffixes(path: str) -> tuple[str, str | None]:
    """The extension that tells the format, in lower case, and the compression around it."""
    pure = PurePosixPath(path.lower())
    compression = _COMPRESSIONS.get(pure.suffix)
    return (PurePosixPath(pure.stem).suffix if compression else pure.suffix), compression


def _data_file(place: _Place, info: pafs.FileInfo) -> DataFile:
    suffix, compression = _suffixes(info.path)
    key, name = place.key, place.scheme + info.path
    if suffix in _PICKLES:
        raise UserError(f"{key}: {name} is a pickle.", PICKLE_REMEDY)
    if suffix not in _FORMATS:
        raise UserError(f"{key}: {name} has an unknown extension '{suffix}'.", f"{_ACCEPTED}.")
    if _FORMATS[suffix] == "parquet" and compression:
        raise UserError(f"{key}: {name} is a compressed Parquet file.", "Decompress it.")
    return DataFile(place.filesystem, info.path, name, _FORMATS[suffix], compression, int(info.size))


def _in_directory(place: _Place, root: str, skip_suffix: str) -> list[DataFile]:
    """The files with a known extension below a directory; hidden ones and those named `_...` never count."""
    infos = place.filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    visible = [
        info
        for info in infos
        if info.type == pafs.FileType.File
        and not any(part.startswith(("_", ".")) for part in PurePosixPath(info.path[len(root) :]).parts[1:])
    ]
    data = [info for info in visible if _suffixes(info.path)[0] in set(_FORMATS) - {skip_suffix}]
    if not data:
        pickles = [info for info in visible if _suffixes(info.path)[0] in _PICKLES]
        if pickles:
            return [_data_file(place, pickles[0])]
        holds = ", ".join(sorted(info.base_name for info in visible)[:5]) or "nothing"
        raise UserError(
            f"{place.key}: the directory {place.scheme}{root} has no data file (it holds {holds}).",
            f"{_ACCEPTED}.",
        )
    if len(data) < len(visible):
        log.info("%s: %d of %d files in %s are read", place.key, len(data), len(visible), root)
    return [_data_file(place, info) for info in data]


def _expand(filesystem: pafs.FileSystem, pattern: str) -> list[pafs.FileInfo]:
    """What a glob matches, found by walking down its parts, so that only the folders it names are listed."""
    parts = pattern.split("/")
    plain = next(index for index, part in enumerate(parts) if any(mark in part for mark in _GLOB))
    level = ["/".join(parts[:plain])]
    last = len(parts) - 1
    for depth, part in enumerate(parts[plain:], start=plain):
        if part == "**" and depth == last:
            break  # directories are searched to their depth anyway
        infos = [
            info
            for folder in level
            for info in filesystem.get_file_info(
                pafs.FileSelector(folder, recursive=part == "**", allow_not_found=True)
            )
        ]
        if part == "**":
            level += [info.path for info in infos if info.type == pafs.FileType.Directory]
            continue
        matching = [info for info in infos if fnmatch.fnmatchcase(info.base_name, part)]
        if depth == last:
            return matching
        level = [info.path for info in matching if info.type == pafs.FileType.Directory]
    return [info for info in filesystem.get_file_info(level) if info.type == pafs.FileType.Directory]
