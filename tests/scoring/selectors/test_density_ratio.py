from __future__ import annotations

from dataclasses import replace

import numpy as np

from scoring.selection import SelectionParams, select
from tests.scoring.selectors.samples import lowest, reference_samples, waiting_times, whole_shard


def test_is_aimed_at_what_the_reference_has():
    shard, reference = whole_shard(2000), reference_samples(400)
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 200, seed=1), reference)
    assert shard.target is not None
    target = dict(zip(shard.sample_id.tolist(), shard.target.tolist(), strict=True))
    share = np.mean([target[sample] <= 6 for sample in chosen.sample_id.tolist()])
    assert share > 0.9
    assert chosen.report["classifier"]["target_ratio"] > 0
    assert set(chosen.report["classifier"]) > {"target_time", "history_ratio"}


def test_draws_in_proportion_to_the_ratio():
    shard, reference = whole_shard(300), reference_samples(80)
    everything = select(lambda: iter([shard]), SelectionParams("density_ratio", 300, seed=5), reference)
    assert everything.report["chosen"] == int(shard.ok.sum())
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 40, seed=5), reference)
    times = waiting_times(everything.sample_id, np.exp(everything.score.astype(np.float64)), 5)
    assert chosen.sample_id.tolist() == lowest(times, 40)


def test_like_samples_are_drawn_alike():
    """A reference of the same kind as train: no sample is much likelier than another."""
    shard = whole_shard(3000, seed=2)
    other = whole_shard(1000, seed=3)
    assert other.history is not None
    assert other.target is not None
    reference = replace(reference_samples(1000), history=other.history, target=other.target)
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 2000), reference)
    assert np.abs(chosen.score).mean() < 0.3


def test_a_reference_that_is_part_of_train_does_not_tell_its_samples_by_their_own_counts():
    """Rare targets and a reference drawn from train by chance: there is nothing by which to tell its samples."""
    shard = replace(whole_shard(2000, seed=4), timestamp=np.linspace(0.0, 1.0, 2000))
    rows = np.random.default_rng(0).permutation(2000)
    shard = replace(shard, target=np.random.default_rng(1).integers(1, 1500, 2000).astype(np.int32))
    part = shard.take(np.sort(rows[:500]))
    assert part.history is not None
    assert part.target is not None
    reference = replace(reference_samples(500), sample_id=part.sample_id, history=part.history, target=part.target)
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", int(shard.ok.sum())), reference)
    inside = np.isin(chosen.sample_id, part.sample_id)
    wins = np.mean(chosen.score[inside][:, None] > chosen.score[~inside][None])
    ties = np.mean(chosen.score[inside][:, None] == chosen.score[~inside][None])
    assert abs(wins + ties / 2 - 0.5) < 0.08


def test_goes_without_times():
    shard = replace(whole_shard(100), timestamp=None)
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 10), reference_samples(20))
    assert len(chosen.sample_id) == 10
    assert "target_time" not in chosen.report["classifier"]
