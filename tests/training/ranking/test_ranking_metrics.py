from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.ragged import Ragged
from training.ranking.ranking_metrics import (
    bootstrap_means,
    rank_targets,
    select_targets,
    summarise,
    summarise_all,
    title_groups,
    user_metrics,
)


def brute_rank(scores, item, seen, groups):
    """Sort the candidates, with the target's group last among ties, and return where its first member stands."""
    count = len(scores)
    if item in seen:
        return count + 1
    mine = {other for other in range(1, count + 1) if groups[other - 1] == groups[item - 1]}
    best = max(scores[other - 1] for other in mine if other not in seen)
    better = [o for o in range(1, count + 1) if o not in seen and o not in mine and scores[o - 1] >= best]
    return len(better) + 1


@st.composite
def cases(draw):
    users, items = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    one = st.integers(1, items)
    scores = draw(st.lists(st.lists(st.integers(0, 6), min_size=items, max_size=items), min_size=users, max_size=users))
    targets = draw(st.lists(st.lists(one, max_size=4, unique=True), min_size=users, max_size=users))
    seen = draw(st.lists(st.lists(one, max_size=6, unique=True), min_size=users, max_size=users))
    groups = draw(st.lists(st.integers(0, 6), min_size=items, max_size=items))
    return np.array(scores, dtype=np.float32), targets, seen, groups


@given(cases())
def test_ranks_equal_brute_force(case):
    scores, targets, seen, groups = case
    ranks = rank_targets(scores, Ragged.from_rows(targets), Ragged.from_rows(seen), np.array(groups))
    apart = rank_targets(scores, Ragged.from_rows(targets))
    for user, items in enumerate(targets):
        expected = [brute_rank(scores[user], item, seen[user], groups) for item in items]
        assert ranks.row(user).tolist() == expected
        singles = range(scores.shape[1])
        assert apart.row(user).tolist() == [brute_rank(scores[user], item, [], singles) for item in items]


@given(st.lists(st.lists(st.integers(1, 60), max_size=8, unique=True), min_size=1, max_size=6))
def test_metrics_equal_brute_force(rows):
    metrics = user_metrics(Ragged.from_rows(rows), (5, 10, 20, 50))
    for cutoff in (5, 10, 20, 50):
        for user, ranks in enumerate(rows):
            recall, ndcg = metrics[f"recall@{cutoff}"][user], metrics[f"ndcg@{cutoff}"][user]
            if not ranks:
                assert math.isnan(recall)
                assert math.isnan(ndcg)
                continue
            hits = [rank for rank in ranks if rank <= cutoff]
            ideal = sum(1 / math.log2(place + 1) for place in range(1, min(len(ranks), cutoff) + 1))
            assert recall == pytest.approx(len(hits) / len(ranks), abs=1e-12)
            assert ndcg == pytest.approx(sum(1 / math.log2(rank + 1) for rank in hits) / ideal, abs=1e-12)


def test_a_constant_scorer_ranks_last():
    ranks = rank_targets(np.zeros((1, 7)), Ragged.from_rows([[3]]), Ragged.from_rows([[1, 2]]))
    assert ranks.values.tolist() == [5]


def test_scores_that_are_not_numbers_rank_last():
    scores = np.array([[np.nan, 1.0, 2.0], [np.nan, np.nan, np.nan]], dtype=np.float32)
    assert rank_targets(scores, Ragged.from_rows([[1, 3], [2]])).values.tolist() == [3, 1, 3]


def test_targets_of_one_title_cannot_push_ndcg_above_one():
    groups = title_groups(["Heat", "Fargo", " Heat"])
    ranks = rank_targets(np.array([[3.0, 1.0, 2.0]]), Ragged.from_rows([[1, 3]]), None, groups)
    assert ranks.values.tolist() == [1, 1]
    assert user_metrics(ranks)["ndcg@5"].tolist() == [1.0]


def test_warm_and_cold_targets_apart():
    ranks = Ragged.from_rows([[1, 30], [2], []])
    cold = np.array([False, True, True])
    assert select_targets(ranks, cold).row(0).tolist() == [30]
    assert [len(select_targets(ranks, ~cold).row(user)) for user in range(3)] == [1, 0, 0]
    warm = user_metrics(select_targets(ranks, ~cold))["recall@10"]
    assert warm[0] == 1
    assert np.isnan(warm[1:]).all()


def test_intervals_hold_the_mean_and_repeat():
    values = np.random.default_rng(0).random(300)
    got = summarise(np.append(values, np.nan), seed=4)
    assert got == summarise(values, seed=4)
    assert got.users == 300
    assert got.low < got.mean < got.high
    assert got.high - got.low == pytest.approx(2 * 1.96 * values.std() / 300**0.5, rel=0.15)
    assert summarise(np.array([np.nan])).users == 0
    assert set(summarise_all(user_metrics(Ragged.from_rows([[1]])), resamples=10)) >= {"recall@5", "ndcg@50"}


def test_bootstrap_draws_are_paired_over_arms():
    values = np.random.default_rng(0).random(50)
    shifted = bootstrap_means(values + 1, 20, seed=1) - bootstrap_means(values, 20, seed=1)
    np.testing.assert_allclose(shifted, 1.0)
