from __future__ import annotations

import pyarrow as pa
import pytest

from training.loops.array_columns import to_ragged

LIST = pa.list_(pa.int32())
ROWS = [[1, 2], [], [3], [4, 5, 6]]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(ROWS, LIST),
        pa.chunked_array([pa.array(ROWS[:1], LIST), pa.array(ROWS[1:], LIST)]),
        pa.array([[9], *ROWS, [9]], LIST)[1:5],
        pa.table({"x": pa.array([[9], *ROWS], LIST)}).slice(1)["x"],
    ],
)
def test_rows_survive_chunks_and_slices(column: pa.Array) -> None:
    ragged = to_ragged(column)
    assert [ragged.row(row).tolist() for row in range(len(ragged))] == ROWS


def test_no_rows() -> None:
    assert len(to_ragged(pa.chunked_array([], LIST))) == 0
