"""What an export writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export: its format, name, number of samples and size in bytes."""

    format: str
    file: str
    samples: int
    bytes: int
