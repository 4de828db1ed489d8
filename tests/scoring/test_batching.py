from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.batching import collate, collate_windows, length_buckets, windows
from scoring.exceptions import SettingError
from scoring.ragged import Ragged

LENGTHS = st.lists(st.integers(0, 60), max_size=80)


@given(LENGTHS, st.integers(1, 200), st.integers(1, 20), st.none() | st.integers(0, 5))
def test_buckets_hold_every_row_once_within_both_bounds(
    lengths: list[int], max_tokens: int, max_rows: int, seed: int | None
) -> None:
    batches = length_buckets(lengths, max_tokens, max_rows, seed)
    assert sorted(np.concatenate([np.empty(0, int), *batches]).tolist()) == list(range(len(lengths)))
    for rows in batches:
        longest = max(max(lengths[row], 1) for row in rows)
        assert len(rows) <= max_rows
        assert len(rows) == 1 or len(rows) * longest <= max_tokens


def test_buckets_waste_little_on_padding() -> None:
    lengths = np.random.default_rng(0).geometric(0.2, size=5000).clip(1, 50)
    batches = length_buckets(lengths, 1024, 512)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    assert padded < 1.1 * lengths.sum()


def test_a_shuffle_depends_on_its_seed_alone() -> None:
    lengths = [3, 3, 3, 3, 1, 1, 2, 2] * 5
    once, again, other = (length_buckets(lengths, 12, 4, seed) for seed in (1, 1, 2))
    assert [rows.tolist() for rows in once] == [rows.tolist() for rows in again]
    assert [rows.tolist() for rows in once] != [rows.tolist() for rows in other]


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(SettingError, match="at least one"):
        length_buckets([1, 2], 0, 5)


def test_collate_pads_on_the_right() -> None:
    batch = collate(Ragged.from_rows([[1], [2, 3], [4, 5, 6]]), [7, 8, 9], [2, 0])
    assert batch.history.tolist() == [[4, 5, 6], [1, 0, 0]]
    assert batch.lengths.tolist() == [3, 1]
    assert batch.target.tolist() == [9, 7]


def test_collate_of_empty_histories_keeps_a_column() -> None:
    batch = collate(Ragged.from_rows([[], []]), [1, 2], [0, 1])
    assert batch.history.tolist() == [[0], [0]]
    assert batch.lengths.tolist() == [0, 0]


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 12))
def test_every_position_is_the_target_of_one_window(lengths: list[int], max_history: int) -> None:
    """Items are numbered by (row, position), so a target identifies its position."""
    rows = [[100 * row + place + 1 for place in range(length)] for row, length in enumerate(lengths)]
    cut, first = windows(Ragged.from_rows(rows), max_history)
    assert (cut.lengths >= 2).all()
    assert (cut.lengths <= max_history + 1).all()
    batch = collate_windows(cut, first, np.arange(len(cut)))
    targets = batch.targets[batch.counted].tolist()
    assert sorted(targets) == sorted(item for row in rows for item in row[1:])


@given(st.integers(2, 60), st.integers(1, 12))
def test_the_last_target_is_predicted_from_the_whole_last_history(length: int, max_history: int) -> None:
    row = list(range(1, length + 1))
    cut, _ = windows(Ragged.from_rows([row]), max_history)
    last = cut.row(len(cut) - 1).tolist()
    assert last == row[-(max_history + 1) :]


def test_overlap_gives_every_counted_target_half_a_window_of_history() -> None:
    cut, first = windows(Ragged.from_rows([list(range(1, 41))]), 10)
    assert first.tolist() == [0] + [5] * (len(cut) - 1)
    assert cut.row(0).tolist() == list(range(1, int(cut.lengths[0]) + 1))
