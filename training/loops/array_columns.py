"""From Arrow columns to the arrays that training works on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from cluster.errors import UserError
from cluster.storage import Storage
from scoring.ragged import Ragged


def to_ragged(column: pa.ChunkedArray | pa.Array) -> Ragged:
    """Return the rows of a list<int32> column."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.list_(pa.int32()))
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.flatten().to_numpy(zero_copy_only=False).astype(np.int32)
    return Ragged(values, offsets - offsets[0])


def read_parts(folder: Storage, columns: Sequence[str], what: str) -> pa.Table:
    """Read all `part-*.parquet` of a folder in the order of their names. Raises `UserError` if there is none."""
    names = part_names(folder, what)
    return pa.concat_tables([folder.read_table(name, columns) for name in names])


def part_names(folder: Storage, what: str) -> list[str]:
    """Return the names of a folder's parts. Raises `UserError` that names `what` if there is none."""
    names = folder.list(suffix=".parquet")
    if not names:
        raise UserError(f"{folder.uri} holds no {what}.", "Run the ingest stage first.")
    return names
