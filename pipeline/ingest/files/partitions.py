"""Columns that are written in the path: `dt=2024-01-01/part-0.parquet`, as Hive and Spark lay tables out."""

from __future__ import annotations

from urllib.parse import unquote

#: Names that Hive and Spark write for a missing value.
_MISSING = ("__HIVE_DEFAULT_PARTITION__", "")


def is_partition(folder: str) -> bool:
    """Return whether a folder's name gives a column a value."""
    key, equals, _ = folder.partition("=")
    return bool(key and equals)


def path_columns(folders: str) -> dict[str, str | None]:
    """Return column name -> value for every folder of a path that is named `column=value`.

    Percent codes are decoded.

    Parameters
    ----------
    folders : a path without the name of the file itself.
    """
    columns: dict[str, str | None] = {}
    for folder in folders.split("/"):
        if is_partition(folder):
            key, _, value = folder.partition("=")
            columns[unquote(key)] = None if value in _MISSING else unquote(value)
    return columns
