"""Find the files that a path, directory, glob or URI stands for."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.storage import is_remote, open_filesystem
from pipeline.ingest.files.datafile import DataFile, Format, Place
from pipeline.ingest.files.globs import expand, has_pattern, plain_folder
from pipeline.ingest.files.other_formats import ACCEPTED, OTHER_FORMATS, unsupported
from pipeline.ingest.files.part_names import part_of
from pipeline.ingest.files.partitions import path_columns
from pipeline.ingest.files.table_formats import table_files

log = logging.getLogger("dealrec.ingest")

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

PICKLE_REMEDY = (
    "Reading a pickle can run code, so pickles are refused. Save the table as Parquet (DataFrame.to_parquet)."
)


def find_files(location: str, key: str, skip_suffix: str = "") -> list[DataFile]:
    """Return the data files that `location` names, sorted by path, all of one format.

    For a Delta or Iceberg table, these are the files that its log counts.

    Parameters
    ----------
    location : local path, directory (searched recursively), glob (`*`, `?`, `[]`, `**`) or URI.
    key : the configuration key it came from, for messages.
    skip_suffix : extension to ignore in a directory, because RecBole keeps the log beside its items.

    Raises `UserError` if nothing is there, and if what is there is a pickle, is of an unknown format or of several, or
    belongs to a table whose log cannot be followed.
    """
    remote = is_remote(location)
    try:
        filesystem, root = open_filesystem(location if remote else os.path.expanduser(location))
    except UserError as error:
        raise UserError(f"{key}: {error.message}", error.remedy) from error
    scheme = location.split("://")[0] + "://" if remote else ""
    # Third-party filesystems, such as that of the Hugging Face hub, raise their own exceptions.
    foreign = (Exception,) if isinstance(filesystem, pafs.PyFileSystem) else ()
    try:
        return _find(Place(filesystem, root, scheme, key, location), skip_suffix)
    except UserError:
        raise
    except (OSError, pa.ArrowException, *foreign) as error:
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{key}: {location} cannot be listed ({reason}).",
            "Check its permissions, the credentials of the store, and the network.",
        ) from error


def _find(place: Place, skip_suffix: str) -> list[DataFile]:
    found, base = _named(place)
    below = {
        info.path: place.filesystem.get_file_info(pafs.FileSelector(info.path, recursive=True))
        for info in found
        if info.type == pafs.FileType.Directory
    }
    data = {folder: _data_in(infos, folder, skip_suffix) for folder, infos in below.items()}
    live = table_files(place, found, list(chain.from_iterable(below.values())), chain.from_iterable(data.values()))
    if live is not None:
        return live
    files: list[DataFile] = []
    for info in found:
        if info.type == pafs.FileType.Directory:
            files += _in_directory(place, info.path, below[info.path], data[info.path], base)
        else:
            files.append(_data_file(place, info, base))
    formats = {file.format: file.name for file in files}
    if len(formats) > 1:
        raise UserError(
            f"{place.key}: {place.location} mixes formats ({', '.join(sorted(formats.values()))}).",
            "Select the files of one format with a glob.",
        )
    once = {file.path: file for file in files}
    return [once[path] for path in sorted(once)]


def _named(place: Place) -> tuple[list[pafs.FileInfo], str]:
    """Return what the location names, and the folder below which the user did not spell out paths."""
    info = place.filesystem.get_file_info(place.root)
    if info.type != pafs.FileType.NotFound:
        return [info], place.root if info.type == pafs.FileType.Directory else place.root.rpartition("/")[0]
    if not has_pattern(place.root):
        raise UserError(f"{place.key}: {place.location} does not exist.", "Correct the path.")
    found = expand(place.filesystem, place.root)
    if not found:
        raise UserError(f"{place.key}: no file matches {place.location}.", "Correct the pattern.")
    return found, plain_folder(place.root)


def _suffixes(path: str) -> tuple[str, str | None]:
    """Return the extension that tells the format, in lower case, and the compression around it."""
    pure = PurePosixPath(path.lower())
    compression = _COMPRESSIONS.get(pure.suffix)
    return (PurePosixPath(pure.stem).suffix if compression else pure.suffix), compression


def _without_suffixes(path: str) -> str:
    suffix, compression = _suffixes(path)
    bare = path[: path.rindex(".")] if compression else path
    return bare[: len(bare) - len(suffix)]


def _data_file(place: Place, info: pafs.FileInfo, base: str) -> DataFile:
    suffix, compression = _suffixes(info.path)
    key, name = place.key, place.scheme + info.path
    if suffix in _PICKLES:
        raise UserError(f"{key}: {name} is a pickle.", PICKLE_REMEDY)
    if suffix not in _FORMATS:
        raise unsupported(place, info, suffix)
    if _FORMATS[suffix] == "parquet" and compression:
        raise UserError(f"{key}: {name} is a compressed Parquet file.", "Decompress it.")
    folders, spelt = info.path.rpartition("/")[0], path_columns(base)
    given = path_columns(folders)
    below = path_columns(folders[len(base) :])
    return DataFile(
        place.filesystem,
        info.path,
        name,
        _FORMATS[suffix],
        compression,
        int(info.size),
        given=given,
        unasked=frozenset(spelt) - frozenset(below),
        part=part_of(_without_suffixes(info.path)[len(base) :].lstrip("/")),
    )


def _shown(infos: Sequence[pafs.FileInfo], root: str) -> list[pafs.FileInfo]:
    """Return the files below a directory, without hidden ones and those named `_...`."""
    return [
        info
        for info in infos
        if info.type == pafs.FileType.File
        and not any(part.startswith(("_", ".")) for part in PurePosixPath(info.path[len(root) :]).parts[1:])
    ]


def _data_in(infos: Sequence[pafs.FileInfo], root: str, skip_suffix: str) -> list[pafs.FileInfo]:
    """Return the files below a directory that have a known extension."""
    return [info for info in _shown(infos, root) if _suffixes(info.path)[0] in set(_FORMATS) - {skip_suffix}]


def _is_known(name: str) -> bool:
    """Return whether a file may hold the user's data in a format that is not read."""
    is_text = name.lower().startswith(("readme", "license"))
    return _suffixes(name)[0] in (*_PICKLES, *OTHER_FORMATS) and not is_text


def _in_directory(
    place: Place, root: str, infos: Sequence[pafs.FileInfo], data: Sequence[pafs.FileInfo], base: str
) -> list[DataFile]:
    """Return the data files below a directory. Raises `UserError` if there are none."""
    seen = _shown(infos, root)
    if not data:
        known = [info for info in seen if _is_known(info.base_name)]
        if known:
            return [_data_file(place, known[0], base)]  # raises with what the file is and how to convert it
        holds = ", ".join(sorted(info.base_name for info in seen)[:5]) or "nothing"
        raise UserError(
            f"{place.key}: the directory {place.scheme}{root} has no data file (it holds {holds}).",
            f"{ACCEPTED}.",
        )
    if len(data) < len(seen):
        log.info("%s: reading %d of %d files in %s", place.key, len(data), len(seen), root)
    return [_data_file(place, info, base) for info in data]
