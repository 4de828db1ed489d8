"""The head of a ranking against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.ragged import Ragged
from training.ranking.top_items import top_items


def plain(
    scores: np.ndarray, k: int, seen: list[list[int]], allowed: np.ndarray, groups: np.ndarray
) -> list[list[int]]:
    lists = []
    for row, hidden in zip(scores, seen, strict=True):
        found: list[int] = []
        shown: set[int] = set()
        for item in sorted(range(1, len(row) + 1), key=lambda item: (-row[item - 1], item)):
            usable = allowed[item - 1] and item not in hidden and row[item - 1] > -np.inf
            if usable and groups[item - 1] not in shown and len(found) < k:
                found.append(item)
                shown.add(int(groups[item - 1]))
        lists.append(found)
    return lists


@pytest.mark.parametrize("k", [1, 3, 10, 40, 100])
@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_lists_are_those_of_a_plain_sort(k: int, levels: int) -> None:
    draw = np.random.default_rng(levels)
    scores = draw.integers(0, levels, (6, 40)).astype(np.float32)
    seen = [draw.choice(np.arange(1, 41), size, replace=False).tolist() for size in (0, 1, 5, 20, 39, 40)]
    allowed = draw.random(40) < 0.7
    groups = draw.integers(0, 15, 40)
    found = top_items(scores, k, Ragged.from_rows(seen), allowed, groups)
    wanted = plain(scores, k, seen, allowed, groups)
    assert [found.items.row(row).tolist() for row in range(6)] == wanted
    for row, items in enumerate(wanted):
        start = int(found.items.offsets[row])
        expected = scores[row, np.array(items, dtype=int) - 1]
        np.testing.assert_array_equal(found.scores[start : start + len(items)], expected)


def test_an_item_without_a_score_is_no_candidate() -> None:
    scores = np.array([[np.nan, 1.0, -np.inf, 2.0]], dtype=np.float32)
    assert top_items(scores, 4).items.row(0).tolist() == [4, 2]
