"""Values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = "Mapping[str, JsonValue] | Sequence[JsonValue] | str | int | float | bool | None"
JsonRecord: TypeAlias = Mapping[str, JsonValue]


def records(value: JsonValue) -> list[JsonRecord]:
    """Return a list of objects; empty for anything else."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [entry for entry in value if isinstance(entry, Mapping)]


def number_or_none(value: JsonValue) -> float | None:
    """Return a number as float; None for anything else."""
    return float(value) if isinstance(value, int | float) else None
