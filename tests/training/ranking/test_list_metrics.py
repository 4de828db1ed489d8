"""Figures of lists against plain counts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.ragged import Ragged
from training.ranking.list_metrics import first_items, list_metrics, share_outside
from training.ranking.ranking_metrics import title_groups

TITLES = ["Heat", "Fargo", " Heat", "Alien", "Brazil"]
COUNTS = np.array([3, 5, 1, 0, 7])


def test_items_of_one_title_count_once_and_together() -> None:
    lists = Ragged.from_rows([[1, 2], [3, 4], []])
    found = list_metrics(lists, COUNTS, title_groups(TITLES))
    assert (found.distinct, found.coverage) == (3, 3 / 4)
    # Heat has 3 + 1 interactions of 16, Fargo 5; Alien has none and counts as one with a single interaction.
    assert found.popularity == pytest.approx(((4 + 5) / 2 + (4 + 0) / 2) / 2)
    bits = [math.log2(16 / 4), math.log2(16 / 5), math.log2(16 / 4), math.log2(16 / 1)]
    assert found.novelty == pytest.approx((sum(bits[:2]) / 2 + sum(bits[2:]) / 2) / 2)


@given(
    st.lists(st.lists(st.integers(1, 6), max_size=5, unique=True), min_size=1, max_size=6),
    st.lists(st.integers(0, 9), min_size=6, max_size=6),
)
def test_figures_equal_plain_counts(rows: list[list[int]], counts: list[int]) -> None:
    found = list_metrics(Ragged.from_rows(rows), np.array(counts))
    shown, total = Counter(item for row in rows for item in row), max(sum(counts), 1)
    assert (found.distinct, found.coverage) == (len(shown), len(shown) / 6)
    filled = [row for row in rows if row]
    if not filled:
        assert math.isnan(found.novelty)
        assert math.isnan(found.popularity)
        return
    popular = [sum(counts[item - 1] for item in row) / len(row) for row in filled]
    bits = [sum(-math.log2(max(counts[item - 1], 1) / total) for item in row) / len(row) for row in filled]
    assert found.popularity == pytest.approx(sum(popular) / len(filled))
    assert found.novelty == pytest.approx(sum(bits) / len(filled))


def test_lists_are_cut_from_their_heads() -> None:
    cut = first_items(Ragged.from_rows([[4, 2, 9], [], [7]]), 2)
    assert [cut.row(user).tolist() for user in range(3)] == [[4, 2], [], [7]]


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["Heat", "Heat", "Fargo"], 0.0),
        (["Heat", "heat", "", "  ", "Fargo 2"], 4 / 5),
        # As the LLM is shown titles: single quotes, one line, single blanks.
        (["The 'Best'  Film", "untitled", None], 1 / 2),
        ([None, None], None),
        ([], None),
    ],
)
def test_texts_outside_the_catalogue(texts: list[str | None], share: float | None) -> None:
    assert share_outside(texts, ["Heat", "Fargo", 'The "Best"\nFilm']) == share


def test_an_empty_text_is_outside_even_where_an_item_has_no_title() -> None:
    assert share_outside([""], [""]) == 1.0
