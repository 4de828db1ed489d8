from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.ids import draw_order
from scoring.selection import ScoreShard, Selection, SelectionParams, select

NORMALISATIONS = ["minmax", "robust", "rank"]


def make_shard(influence, effort, ok=None, first_id: int = 0) -> ScoreShard:
    influence = np.asarray(influence, dtype=np.float32)
    ids = (np.arange(len(influence), dtype=np.int64) + first_id) * 1_000_003
    usable = np.ones(len(influence), bool) if ok is None else np.asarray(ok, bool)
    return ScoreShard(ids, influence, np.asarray(effort, dtype=np.float32), usable)


def take(shard: ScoreShard, rows) -> ScoreShard:
    return ScoreShard(shard.sample_id[rows], shard.influence[rows], shard.effort[rows], shard.ok[rows])


def select_all(shard: ScoreShard, **params) -> Selection:
    return select(lambda: iter([shard]), SelectionParams(**params))


def assert_same(one: Selection, two: Selection) -> None:
    for name in ("sample_id", "influence", "effort", "score", "stratum"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert json.dumps(one.report) == json.dumps(two.report)


def reference_levels(values: list[float], method: str) -> list[float]:
    """Each value's place on the common scale, with everything sorted in memory."""
    ordered, last = sorted(values), len(values) - 1
    if method == "minmax":
        ranks, levels = [0, last], [0.0, 1.0]
    elif method == "robust":
        tail = int(0.01 * last)
        ranks, levels = [tail, last - tail], [0.0, 1.0]
    else:
        ranks = sorted({j * last // 1024 for j in range(1025)})
        levels = [rank / max(last, 1) for rank in ranks]
    shared: dict[float, list[float]] = {}
    for rank, level in zip(ranks, levels, strict=True):
        shared.setdefault(ordered[rank], []).append(level)
    knots = [(value, sum(group) / len(group)) for value, group in sorted(shared.items())]
    return [reference_level(value, knots) for value in values]


def reference_level(value: float, knots: list[tuple[float, float]]) -> float:
    if len(knots) == 1:
        return knots[0][1]
    value = min(max(value, knots[0][0]), knots[-1][0])
    for (x0, y0), (x1, y1) in pairwise(knots):
        if value < x1 or (x1, y1) == knots[-1]:
            return y0 + (value - x0) / (x1 - x0) * (y1 - y0)
    raise AssertionError


def reference_choice(shard: ScoreShard, params: SelectionParams) -> dict[int, int]:
    """The method as the paper tells it, on Python lists: chosen sample id to stratum."""
    rows = [
        row
        for row in range(len(shard.ok))
        if shard.ok[row] and np.isfinite(shard.influence[row]) and np.isfinite(shard.effort[row])
    ]
    influence = reference_levels([float(shard.influence[row]) for row in rows], params.normalise)
    effort = reference_levels([float(shard.effort[row]) for row in rows], params.normalise)
    keys = draw_order(shard.sample_id, params.seed).tolist()
    scored = sorted(
        (float(np.float32(i + params.lambda_ * e)), keys[row], int(shard.sample_id[row]))
        for row, i, e in zip(rows, influence, effort, strict=True)
    )
    left = scored[: len(scored) - int(Fraction(str(params.hard_prune)) * len(scored))]
    low, width = left[0][0], left[-1][0] - left[0][0]
    strata: dict[int, list[tuple[int, int]]] = {}
    for score, key, sample in left:
        place = int((score - low) / width * params.strata) if width else 0
        strata.setdefault(min(place, params.strata - 1), []).append((key, sample))
    wanted = max(1, int(Fraction(str(params.size)) * len(shard.ok))) if params.size < 1 else int(params.size)
    chosen: dict[int, int] = {}
    visits = sorted(strata, key=lambda stratum: (len(strata[stratum]), stratum))
    for visited, stratum in enumerate(visits):
        take_here = min(len(strata[stratum]), wanted // (len(visits) - visited))
        wanted -= take_here
        chosen |= {sample: stratum for _, sample in sorted(strata[stratum])[:take_here]}
    return chosen


score_values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, float("nan"), float("inf")]),
    st.floats(-1e5, 1e5, width=32),
)


@st.composite
def problems(draw) -> tuple[ScoreShard, SelectionParams]:
    count = draw(st.integers(1, 120))
    columns = st.lists(score_values, min_size=count, max_size=count)
    ok = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=count, max_size=count))
    influence, effort = draw(columns), draw(columns)
    influence[0], effort[0], ok[0] = 1.0, 1.0, True
    params = SelectionParams(
        size=draw(st.one_of(st.sampled_from([0.02, 0.3, 0.29]), st.integers(1, count))),
        lambda_=draw(st.sampled_from([0.0, 0.5, 2.0])),
        strata=draw(st.integers(1, 12)),
        hard_prune=draw(st.sampled_from([0.0, 0.1, 0.29, 0.9])),
        normalise=draw(st.sampled_from(NORMALISATIONS)),
        seed=draw(st.integers(0, 3)),
    )
    return make_shard(influence, effort, ok), params


@given(problems())
@settings(max_examples=100, deadline=None)
def test_equals_the_method_in_memory(problem):
    shard, params = problem
    chosen = select(lambda: iter([shard]), params)
    found = dict(zip(chosen.sample_id.tolist(), chosen.stratum.tolist(), strict=True))
    assert found == reference_choice(shard, params)


@given(problems(), st.data())
@settings(max_examples=50, deadline=None)
def test_partition_and_order_change_nothing(problem, data):
    shard, params = problem
    count = len(shard.ok)
    order = np.array(data.draw(st.permutations(range(count))), dtype=np.int64)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    parts = [take(shard, part) for part in np.split(order, cuts)]
    assert_same(select(lambda: iter(parts), params), select(lambda: iter([shard]), params))


@given(problems())
@settings(max_examples=50, deadline=None)
def test_report_adds_up(problem):
    shard, params = problem
    chosen = select(lambda: iter([shard]), params)
    report, strata = chosen.report, chosen.report["strata"]
    assert report["samples"] == report["usable"] + report["not_ok"] + report["nonfinite"]
    left = report["usable"] - report["hard_prune"]["dropped"]
    assert sum(stratum["samples"] for stratum in strata) == left
    assert sum(stratum["picks"] for stratum in strata) == min(report["budget"], left) == report["chosen"]
    assert report["chosen"] == len(chosen.sample_id) == len(set(chosen.sample_id.tolist()))
    picks = np.bincount(chosen.stratum, minlength=params.strata)
    assert picks.tolist() == [stratum["picks"] for stratum in strata]
    filled = [stratum["picks"] for stratum in strata if stratum["samples"]]
    assert report["budget"] < len(filled) or min(filled) >= 1


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_many_samples_in_many_shards(normalise):
    generator = np.random.default_rng(3)
    shard = make_shard(generator.standard_t(2, 30_000), generator.lognormal(size=30_000))
    parts = [take(shard, rows) for rows in np.array_split(generator.permutation(30_000), 7)]
    params = SelectionParams(normalise=normalise, seed=5)
    chosen = select(lambda: iter(parts), params)
    assert len(chosen.sample_id) == 600
    assert_same(chosen, select(lambda: iter([shard]), params))
    assert chosen.report["hard_prune"]["dropped"] == 3000
    assert (chosen.score < chosen.report["hard_prune"]["cut_off"]).all()


def test_only_ok_and_finite_samples_are_chosen():
    influence = [1, 2, np.nan, 4, 5, np.inf]
    effort = [1, np.nan, 3, 4, 5, 6]
    shard = make_shard(influence, effort, ok=[1, 1, 1, 0, 1, 1])
    chosen = select_all(shard, size=2, hard_prune=0.0)
    assert chosen.sample_id.tolist() == [0, 4 * 1_000_003]
    assert (chosen.report["not_ok"], chosen.report["nonfinite"], chosen.report["usable"]) == (1, 3, 2)


def test_prune_drops_the_highest_scores():
    shard = make_shard(np.arange(100), np.zeros(100))
    chosen = select_all(shard, size=90, hard_prune=0.1)
    assert chosen.influence.max() == 89
    assert chosen.report["hard_prune"]["dropped"] == 10


def test_ties_at_the_cut_are_broken_by_the_draw():
    shard = make_shard(np.zeros(1000), np.zeros(1000))
    kept = [set(select_all(shard, size=900, seed=seed).sample_id.tolist()) for seed in (0, 1)]
    assert [len(ids) for ids in kept] == [900, 900]
    assert kept[0] != kept[1]


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_equal_scores_are_a_random_draw(normalise):
    shard = make_shard(np.full(500, 2.0), np.full(500, 3.0))
    chosen = select_all(shard, size=20, hard_prune=0.0, normalise=normalise)
    lowest = np.argsort(draw_order(shard.sample_id, 0))[:20]
    assert chosen.sample_id.tolist() == sorted(shard.sample_id[lowest].tolist())
    assert "plain random draw" in chosen.report["warnings"][0]


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_a_single_sample(normalise):
    chosen = select_all(make_shard([0.7], [0.1]), normalise=normalise)
    assert chosen.sample_id.tolist() == [0]
    assert chosen.report["warnings"] == []


def test_seeds_differ_and_repeat():
    generator = np.random.default_rng(0)
    shard = make_shard(generator.normal(size=5000), generator.normal(size=5000))
    one, two, again = (select_all(shard, seed=seed, normalise="rank") for seed in (1, 2, 1))
    assert_same(one, again)
    assert len(set(one.sample_id.tolist()) & set(two.sample_id.tolist())) < 30


def test_an_outlier_squeezes_minmax_and_not_rank():
    generator = np.random.default_rng(1)
    influence = generator.normal(size=2000)
    influence[0] = -1e6
    shard = make_shard(influence, generator.uniform(size=2000) * 1e-3)
    assert "stratum 49 of 50" in select_all(shard, lambda_=0.0).report["warnings"][0]
    assert select_all(shard, lambda_=0.0, normalise="rank").report["warnings"] == []


def test_more_than_is_left_takes_all_and_says_so():
    shard = make_shard(np.arange(100), np.arange(100))
    chosen = select_all(shard, size=95, hard_prune=0.1)
    assert len(chosen.sample_id) == 90
    assert "all 90 left" in chosen.report["warnings"][0]


def test_lambda_weighs_the_effort():
    shard = make_shard([0, 1, 0, 1], [0, 0, 1, 1])
    assert select_all(shard, size=4, hard_prune=0.0, lambda_=0.25).score.tolist() == [0, 1, 0.25, 1.25]
