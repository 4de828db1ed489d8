from __future__ import annotations

from dataclasses import replace

import numpy as np

from scoring.ragged import Ragged
from scoring.reference import ReferenceShard
from scoring.selection import ScoreShard
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import (
    lowest,
    reference_of,
    reference_samples,
    reference_shard,
    waiting_times,
    whole_shard,
)


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
    reference = reference_of(reference_shard(other.history, other.target))
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 2000), reference)
    assert np.abs(chosen.score).mean() < 0.3


def test_a_reference_that_is_part_of_train_does_not_tell_its_samples_by_their_own_counts():
    """Rare targets and a reference drawn from train by chance: there is nothing by which to tell its samples."""
    shard = whole_shard(2000, seed=4)
    rows = np.random.default_rng(0).permutation(2000)
    shard = replace(shard, target=np.random.default_rng(1).integers(1, 1500, 2000).astype(np.int32))
    late = np.isin(np.arange(2000), rows[:500])
    # What is of the reference is told by a time, of which nothing else is to be seen.
    shard = replace(shard, timestamp=late.astype(np.float64))
    part = shard.take(np.flatnonzero(late))
    assert part.history is not None
    assert part.target is not None
    assert part.user is not None
    samples = replace(reference_shard(part.history, part.target), sample_id=part.sample_id, user=part.user)
    reference = reference_of(samples, since=0.5)
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", int(shard.ok.sum())), reference)
    inside = np.isin(chosen.sample_id, part.sample_id)
    wins = np.mean(chosen.score[inside][:, None] > chosen.score[~inside][None])
    ties = np.mean(chosen.score[inside][:, None] == chosen.score[~inside][None])
    assert abs(wins + ties / 2 - 0.5) < 0.08


def test_users_with_many_targets_are_not_told_by_their_own_history():
    """Train and reference of one kind, but that each user of the reference has twenty targets after one history."""
    shard = whole_shard(2000, seed=5, items=400)
    generator = np.random.default_rng(6)
    assert shard.history is not None
    shard = replace(shard, user=shard.sample_id)
    aimed = np.sort(generator.permutation(2000)[:200])
    row = np.repeat(np.arange(200), 20)
    target = generator.integers(1, 401, len(row)).astype(np.int32)
    ids = np.arange(len(row), dtype=np.int64) + (1 << 40)
    assert shard.history is not None
    users = shard.sample_id[aimed]
    reference = reference_of(ReferenceShard(ids, shard.history.take(aimed), row, target, users[row]))
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 300), reference)
    # Their own train samples are a tenth of all.
    assert 0.05 < np.isin(chosen.sample_id, users).mean() < 0.16


def test_users_of_the_reference_are_not_told_by_what_they_did_in_train():
    """One process throughout, in which users have a taste; half of the users are of the reference, by chance."""
    generator = np.random.default_rng(8)
    users, items = 2000, 1500
    tastes = generator.integers(1, items - 20, users)[:, None]
    liked = (tastes + generator.integers(0, 20, (users, 6))).astype(np.int32)
    train, later = Ragged.from_rows(liked[:, :3]), Ragged.from_rows(liked[:, :4])
    ids = np.arange(users, dtype=np.int64)
    none = np.zeros(users, dtype=np.float32)
    whole = np.ones(users, dtype=np.bool_)
    shard = ScoreShard(ids, none, none, whole, target=liked[:, 3], history=train, user=ids)
    aimed = np.flatnonzero(generator.random(users) < 0.5)
    part = ReferenceShard(
        ids[aimed] + (1 << 40), later.take(aimed), np.arange(len(aimed)), liked[aimed, 4], user=ids[aimed]
    )
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", users), reference_of(part))
    weight = np.exp(chosen.score.astype(np.float64))
    assert abs(weight[np.isin(chosen.sample_id, aimed)].sum() / weight.sum() - 0.5) < 0.05


def test_goes_without_times():
    shard = replace(whole_shard(100), timestamp=None)
    chosen = select(lambda: iter([shard]), SelectionParams("density_ratio", 10), reference_samples(20))
    assert len(chosen.sample_id) == 10
    assert "target_time" not in chosen.report["classifier"]
