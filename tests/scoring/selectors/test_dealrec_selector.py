from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.candidate_rule import CandidateRule
from scoring.ids import draw_order
from scoring.selection import ScoreShard, Selection
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import assert_same, make_shard, parts_of, reference_choice, waiting_times

NORMALISATIONS = ["minmax", "robust", "rank"]


def whole(shard: ScoreShard, params: SelectionParams) -> Selection:
    return select(lambda: iter([shard]), params)


def select_all(shard: ScoreShard, **params) -> Selection:
    return whole(shard, SelectionParams(**params))


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
    parts = parts_of(shard, order, cuts)
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
    parts = [shard.take(rows) for rows in np.array_split(generator.permutation(30_000), 7)]
    params = SelectionParams(normalise=normalise, seed=5)
    chosen = select(lambda: iter(parts), params)
    assert len(chosen.sample_id) == 600
    assert_same(chosen, select(lambda: iter([shard]), params))
    assert chosen.report["hard_prune"]["dropped"] == 3000
    assert (chosen.score < chosen.report["hard_prune"]["cut_off"]).all()


@given(problems(), st.sampled_from([1000, 6667]), st.sampled_from(["strata", "proportional"]))
@settings(max_examples=50, deadline=None)
def test_equal_weights_are_none(problem, weight, sampling):
    """But for the order of the draw, and the cut: the sample in which it falls remains."""
    shard, params = problem
    params = replace(params, hard_prune=0.0, sampling=sampling)
    weighed = replace(shard, weight=np.full(len(shard.ok), weight, dtype=np.int64))
    one, two = (whole(part, params) for part in (shard, weighed))
    if params.normalise == "minmax" and sampling == "strata":
        assert one.report["strata"] == two.report["strata"]
    assert len(one.sample_id) == len(two.sample_id)


@given(problems(), st.data())
@settings(max_examples=50, deadline=None)
def test_partition_changes_nothing_of_weighed_samples_either(problem, data):
    shard, params = problem
    count = len(shard.ok)
    weights = data.draw(st.lists(st.integers(1000, 50_000), min_size=count, max_size=count))
    shard = replace(shard, weight=np.array(weights, dtype=np.int64))
    order = np.array(data.draw(st.permutations(range(count))), dtype=np.int64)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    whole = select(lambda: iter([shard]), params)
    assert_same(select(lambda: iter(parts_of(shard, order, cuts)), params), whole)
    assert whole.report["chosen"] >= 1


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_weighed_candidates_are_pruned_and_normalised_like_the_log(normalise):
    """Candidates of whom rare scores are as many as common ones: a cut at a tenth of them would be another one."""
    generator = np.random.default_rng(8)
    influence, effort = generator.standard_normal(100_000), generator.random(100_000)
    rule = CandidateRule.over(lambda: iter([influence.astype(np.float32)]), 0.05)
    log = make_shard(influence, effort)
    chosen = rule.chosen(log.sample_id, log.influence)
    candidates = replace(log, ok=chosen, weight=rule.weights(log.influence))
    unweighed = replace(log, ok=chosen)
    params = SelectionParams(method="influence", normalise=normalise)
    log_cut, cut, uneven = (whole(part, params).influence.max() for part in (log, candidates, unweighed))
    assert abs(cut - log_cut) < 0.1
    assert uneven > log_cut + 0.5


@pytest.mark.parametrize("method", ["effort", "dealrec"])
def test_candidates_are_drawn_for_what_they_stand_for(method):
    """Influence and effort tell nothing of each other, so a draw by effort has as much of either tail as the log."""
    generator = np.random.default_rng(9)
    influence, effort = generator.standard_normal(60_000), generator.lognormal(size=60_000)
    log = make_shard(influence, effort)
    rule = CandidateRule.over(lambda: iter([log.influence]), 0.1)
    candidates = replace(log, ok=rule.chosen(log.sample_id, log.influence), weight=rule.weights(log.influence))
    params = SelectionParams(method=method, size=1200, normalise="rank")
    tails = [float((np.abs(whole(part, params).influence) > 2).mean()) for part in (log, candidates)]
    unweighed = float((np.abs(whole(replace(candidates, weight=None), params).influence) > 2).mean())
    assert abs(tails[1] - tails[0]) < 0.07
    assert unweighed > tails[0] + 0.12


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


def test_what_remains_of_a_tie_is_drawn_like_the_others():
    """Half of the samples share the highest score, and half of these are cut: a third of what remains."""
    shard = make_shard(np.repeat([0.0, 1.0], 500), np.zeros(1000))
    shares = []
    for seed in range(8):
        chosen = select_all(shard, size=300, strata=1, hard_prune=0.25, lambda_=0.0, seed=seed)
        shares.append(np.mean(chosen.influence == 1.0))
    assert abs(np.mean(shares) - 1 / 3) < 0.04


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


def test_outliers_that_leave_few_strata_are_reported():
    influence = np.concatenate([np.linspace(0, 4, 1000), [50.0]])
    shard = make_shard(influence, np.zeros(1001))
    report = select_all(shard, lambda_=0.0, hard_prune=0.0).report
    assert "fall into 4 of 50 strata: outliers" in report["warnings"][0]


def test_more_than_is_left_takes_all_and_says_so():
    shard = make_shard(np.arange(100), np.arange(100))
    chosen = select_all(shard, size=95, hard_prune=0.1)
    assert len(chosen.sample_id) == 90
    assert "all 90 left" in chosen.report["warnings"][0]


def test_lambda_weighs_the_effort():
    shard = make_shard([0, 1, 0, 1], [0, 0, 1, 1])
    assert select_all(shard, size=4, hard_prune=0.0, lambda_=0.25).score.tolist() == [0, 1, 0.25, 1.25]


def test_proportional_sampling_draws_by_the_score_above_the_lowest():
    generator = np.random.default_rng(4)
    shard = make_shard(generator.normal(size=400), generator.normal(size=400))
    params = SelectionParams(size=50, sampling="proportional", sharpness=2.0, seed=3, hard_prune=0.0)
    chosen = select(lambda: iter(parts_of(shard, np.arange(400)[::-1], [100, 130])), params)
    everything = select_all(shard, size=400, hard_prune=0.0)
    score = everything.score.astype(np.float64)
    weight = ((score - score.min()) / (score.max() - score.min())) ** 2
    times = waiting_times(everything.sample_id, weight, 3)
    assert chosen.sample_id.tolist() == sorted(sorted(times, key=lambda sample: times[sample])[:50])
    assert chosen.report["sharpness"] == 2.0
    assert sum(stratum["picks"] for stratum in chosen.report["strata"]) == 50


def test_a_sharp_draw_takes_the_top():
    shard = make_shard(np.arange(1000), np.zeros(1000))
    mild, sharp = (
        select_all(shard, size=100, hard_prune=0.0, sampling="proportional", sharpness=power).influence.mean()
        for power in (1.0, 50.0)
    )
    assert 600 < mild < 720
    assert sharp > 930
