from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.ragged import Ragged
from training.ranking.cutoffs import headline_cutoff
from training.ranking.ranking_metrics import (
    Interval,
    bootstrap_means,
    paired_differences,
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
            first = 1 / min(hits) if hits else 0.0
            precisions = [sum(other <= rank for other in hits) / rank for rank in hits]
            assert metrics[f"mrr@{cutoff}"][user] == pytest.approx(first, abs=1e-12)
            assert metrics[f"map@{cutoff}"][user] == pytest.approx(sum(precisions) / len(ranks), abs=1e-12)
            assert ndcg == pytest.approx(sum(1 / math.log2(rank + 1) for rank in hits) / ideal, abs=1e-12)


def by_ranx(tmp_path: Path, cutoffs: list[int], targets: list[list[int]], scores: np.ndarray) -> dict[str, list[float]]:
    rankings = [(np.argsort(-row) + 1).tolist() for row in scores]
    asked = json.dumps({"cutoffs": cutoffs, "targets": targets, "rankings": rankings})
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "IR_DATASETS_HOME": str(tmp_path), "HOME": str(tmp_path)}
    oracle = Path(__file__).parent / "ranx_oracle.py"
    done = subprocess.run(
        [sys.executable, str(oracle)], input=asked, capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def test_metrics_equal_those_of_ranx(tmp_path: Path) -> None:
    """Scores are untied and nothing is masked: conventions differ there."""
    generator = np.random.default_rng(0)
    users, items, cutoffs = 40, 30, [1, 3, 5, 10, 20, 50]
    scores = np.stack([generator.permutation(items).astype(np.float32) for _ in range(users)])
    targets = [generator.choice(items, generator.integers(1, 9), replace=False).tolist() for _ in range(users)]
    targets = [[item + 1 for item in chosen] for chosen in targets]
    found = user_metrics(rank_targets(scores, Ragged.from_rows(targets)), cutoffs)
    expected = by_ranx(tmp_path, cutoffs, targets, scores)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
    assert len({tuple(values) for values in expected.values()}) > 15


def test_a_cutoff_above_any_catalogue_takes_no_memory() -> None:
    found = user_metrics(Ragged.from_rows([[3, 1], [70]]), (1, 10**12))
    assert found[f"recall@{10**12}"].tolist() == [1.0, 1.0]
    assert found[f"ndcg@{10**12}"][1] == pytest.approx(1 / math.log2(71))


@pytest.mark.parametrize(("cutoffs", "headline"), [([5, 10], 10), ([1, 3, 5, 20], 5), ([20, 50], 20), ([7], 7)])
def test_the_headline_is_at_ten_or_the_next_below(cutoffs: list[int], headline: int) -> None:
    assert headline_cutoff(cutoffs) == headline


def test_paired_differences_are_those_of_each_user() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = (Ragged.from_rows(generator.integers(1, 40, (200, 1))) for _ in range(2))
    found = paired_differences(ours, [theirs], (10,))
    mine, other = user_metrics(ours, (10,)), user_metrics(theirs, (10,))
    for name, interval in found.items():
        assert interval == summarise(mine[name] - other[name])
    several = paired_differences(ours, [theirs, ours], (10,))
    assert several["ndcg@10"].mean == pytest.approx(found["ndcg@10"].mean / 2)
    same = paired_differences(ours, [ours], (10,))
    assert {(value.mean, value.low, value.high, value.sign) for value in same.values()} == {(0.0, 0.0, 0.0, 0)}
    assert found["ndcg@10"].low < found["ndcg@10"].mean < found["ndcg@10"].high


def test_an_interval_knows_its_side_of_zero() -> None:
    signs = [Interval(0.0, low, high, 9).sign for low, high in [(0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (1e-17, 1e-16)]]
    assert signs == [1, -1, 0, 0]
    assert Interval(math.nan, math.nan, math.nan, 0).sign == 0


def test_metrics_of_different_users_are_summarised_apart() -> None:
    few = np.array([1.0, np.nan, 3.0])
    found = summarise_all({"all": np.array([1.0, 2.0, 3.0]), "few": few}, resamples=50)
    assert list(found) == ["all", "few"]
    assert found["few"] == summarise(few, resamples=50)
    assert (found["all"].users, found["few"].users, found["few"].mean) == (3, 2, 2.0)


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
    assert {name: values.tolist() for name, values in user_metrics(ranks, (5,)).items()} == {
        "recall@5": [1.0],
        "ndcg@5": [1.0],
        "mrr@5": [1.0],
        "map@5": [1.0],
    }


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
