from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.strata import Strata, stratum_budgets

sizes = st.lists(st.integers(0, 1000), min_size=1, max_size=60).map(lambda s: np.array(s, dtype=np.int64))


@given(sizes, st.integers(0, 5000))
@settings(deadline=None)
def test_budgets_fill_and_fit(counts, budget):
    budgets = stratum_budgets(counts, budget)
    assert budgets.sum() == min(budget, counts.sum())
    assert (budgets >= 0).all()
    assert (budgets <= counts).all()


@given(sizes, st.integers(0, 5000))
@settings(deadline=None)
def test_every_filled_stratum_is_hit_when_the_budget_allows(counts, budget):
    filled = counts > 0
    if budget >= filled.sum():
        assert (stratum_budgets(counts, budget)[filled] > 0).all()


@given(sizes, st.integers(0, 5000))
@settings(deadline=None)
def test_no_stratum_gets_more_than_a_larger_one(counts, budget):
    budgets = stratum_budgets(counts, budget)[np.argsort(counts, kind="stable")]
    assert (np.diff(budgets) >= 0).all()


def test_what_small_strata_leave_flows_to_the_larger():
    # 12 over 4: the 1 leaves 11 for three (3 each), the 2 leaves 9 for two: 4, then 5.
    assert stratum_budgets(np.array([100, 2, 50, 1, 0]), 12).tolist() == [5, 2, 4, 1, 0]


def test_fewer_than_strata_go_to_the_largest():
    assert stratum_budgets(np.array([5, 3, 9, 4]), 2).tolist() == [1, 0, 1, 0]


def test_equal_widths_with_the_top_in_the_last():
    strata = Strata(0.0, 1.0, 4)
    scores = np.array([0, 0.2499, 0.25, 0.5, 0.99, 1.0], dtype=np.float32)
    assert strata.index(scores).tolist() == [0, 0, 1, 2, 3, 3]
    assert strata.counts(scores).tolist() == [2, 1, 1, 2]
    np.testing.assert_allclose(strata.edges, [0, 0.25, 0.5, 0.75, 1])


def test_equal_scores_share_the_first_stratum():
    assert Strata(0.3, 0.3, 5).counts(np.full(7, 0.3, dtype=np.float32)).tolist() == [7, 0, 0, 0, 0]
