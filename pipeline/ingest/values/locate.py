"""Find a row of the log again, to name it in a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.reading import LogReader, Piece, numbered_block, read_piece
from pipeline.ingest.values.column_values import plain_number


def first_row(
    tasks: Sequence[Sequence[Piece]],
    reader: LogReader,
    role: str,
    wanted: Callable[[pa.Array], pa.Array],
    with_value: bool = False,
) -> str:
    """Return file, column and row of the first kept value that `wanted` (array -> bool array) selects.

    With `with_value`, the value is appended. The log is read from its beginning to that row.
    """
    for piece in (piece for task in tasks for piece in task):
        for table, first in read_piece(piece, list(dict.fromkeys(reader.roles.values()))):
            block, rows = numbered_block(table, reader, piece.file.name, first)
            kept = block[role].slice(0, len(rows)).combine_chunks()
            found = pc.index(pc.fill_null(wanted(kept), False), True).as_py()
            if found >= 0:
                place = f"{piece.file.name}, column '{reader.roles[role]}', row {first + int(rows[found])}"
                return f"{place} has {plain_number(kept[found].as_py())}" if with_value else place
    raise ValueError("no such row")
