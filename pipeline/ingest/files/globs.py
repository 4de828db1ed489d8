"""Expand patterns in paths on any Arrow filesystem."""

from __future__ import annotations

import fnmatch

import pyarrow.fs as pafs

_MARKS = "*?["


def has_pattern(path: str) -> bool:
    """Return whether a path contains a wildcard."""
    return any(mark in path for mark in _MARKS)


def plain_folder(pattern: str) -> str:
    """Return the folder before the first part with a wildcard; the path itself if there is none."""
    return "/".join(pattern.split("/")[: _first_mark(pattern)]) or "/"


def _first_mark(pattern: str) -> int:
    parts = pattern.split("/")
    return next((index for index, part in enumerate(parts) if has_pattern(part)), len(parts))


def expand(filesystem: pafs.FileSystem, pattern: str) -> list[pafs.FileInfo]:
    """Return what a glob matches.

    It walks down the parts of the pattern, so only the folders that the pattern names are listed.
    """
    parts = pattern.split("/")
    level = [plain_folder(pattern)]
    first, last = _first_mark(pattern), len(parts) - 1
    for depth, part in enumerate(parts[first:], start=first):
        if part == "**" and depth == last:
            break  # directories are searched recursively anyway
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
