from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.counts import FOLDS, FoldedTally, Tally

items = st.lists(st.integers(0, 30), max_size=20)


@given(st.lists(items, max_size=5))
def test_counts_what_a_counter_counts(parts):
    tally = Tally()
    for part in parts:
        tally.add(np.array(part, dtype=np.int32))
    counter = Counter(item for part in parts for item in part)
    asked = np.arange(40, dtype=np.int32)
    assert tally.of(asked).tolist() == [counter[item] for item in range(40)]


folded = st.lists(st.tuples(st.integers(0, 30), st.integers(0, FOLDS - 1)), max_size=20)


@given(st.lists(folded, max_size=5))
def test_a_fold_is_told_what_the_others_have_counted(parts):
    tally = FoldedTally()
    for part in parts:
        asked, folds = np.array(part, dtype=np.int64).reshape(-1, 2).T
        tally.add(asked.astype(np.int32), folds)
    pairs = [pair for part in parts for pair in part]
    asked = np.arange(40, dtype=np.int32)
    for fold in range(FOLDS):
        others = Counter(item for item, other in pairs if other != fold)
        assert tally.of_others(asked, np.full(40, fold)).tolist() == [others[item] for item in range(40)]


def test_adds_amounts():
    tally = Tally()
    tally.add(np.array([2, 2, 5]), np.array([10, 1, 7]))
    tally.add(np.array([2]), np.array([-1]))
    assert tally.of(np.array([2, 5, 6])).tolist() == [10, 7, 0]
