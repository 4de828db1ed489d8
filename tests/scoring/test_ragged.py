import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.ragged import Ragged, concatenate

ROWS = st.lists(st.lists(st.integers(1, 99), max_size=6), max_size=12)


def as_lists(rows: Ragged) -> list[list[int]]:
    return [rows.row(index).tolist() for index in range(len(rows))]


@given(ROWS)
def test_rows_come_back(rows: list[list[int]]) -> None:
    ragged = Ragged.from_rows(rows)
    assert as_lists(ragged) == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.row_of_value().tolist() == [i for i, row in enumerate(rows) for _ in row]


@given(ROWS, st.data())
def test_take_gathers_rows(rows: list[list[int]], data: st.DataObject) -> None:
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10)) if rows else []
    assert as_lists(Ragged.from_rows(rows).take(np.array(picks, dtype=np.int64))) == [rows[i] for i in picks]


@given(ROWS, st.integers(1, 4))
def test_tail_keeps_the_last_items(rows: list[list[int]], count: int) -> None:
    assert as_lists(Ragged.from_rows(rows).tail(count)) == [row[-count:] for row in rows]


@given(st.lists(ROWS, max_size=4))
def test_concatenate(parts: list[list[list[int]]]) -> None:
    joined = concatenate([Ragged.from_rows(part) for part in parts])
    assert as_lists(joined) == [row for part in parts for row in part]


def test_offsets_must_cover_the_values() -> None:
    with pytest.raises(ValueError, match="offsets"):
        Ragged(np.array([1, 2], dtype=np.int32), np.array([0, 1], dtype=np.int64))
