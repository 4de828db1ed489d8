"""Rows of a result as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.progress import format_fact


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows as plain text: the columns are the keys of the first row, and numbers stand on the right."""
    columns = list(rows[0])
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[place]) for line in cells)) for place, column in enumerate(columns)]
    numeric = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]
    lines = [_line(columns, widths, numeric), "  ".join("-" * width for width in widths)]
    lines += [_line(line, widths, numeric) for line in cells]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "-" if value is None else format_fact(value)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(padded).rstrip()
