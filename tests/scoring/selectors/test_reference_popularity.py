from __future__ import annotations

from collections import Counter

import numpy as np

from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import lowest, only_shard, reference_samples, waiting_times, whole_shard


def test_draws_by_the_references_counts_as_in_memory():
    shard, reference = whole_shard(200), reference_samples(40)
    chosen = select(lambda: iter([shard]), SelectionParams("reference_popularity", 30, seed=8), reference)
    counts = Counter(only_shard(reference).target.tolist())
    assert shard.target is not None
    weights = [counts[item] for item in shard.target[shard.ok].tolist()]
    assert chosen.sample_id.tolist() == lowest(waiting_times(shard.sample_id[shard.ok], weights, 8), 30)
    target = dict(zip(shard.sample_id.tolist(), shard.target.tolist(), strict=True))
    assert chosen.score.tolist() == [counts[target[sample]] for sample in chosen.sample_id.tolist()]
    assert chosen.report["warnings"] == []


def test_targets_that_the_reference_lacks_come_last():
    shard = whole_shard(100)
    chosen = select(lambda: iter([shard]), SelectionParams("reference_popularity", 70), reference_samples(40))
    assert shard.target is not None
    wanted = shard.sample_id[shard.ok & (shard.target <= 6)]
    assert set(wanted.tolist()) <= set(chosen.sample_id.tolist())
    assert int(np.count_nonzero(chosen.score == 0)) == 70 - len(wanted)
    assert "lacks" in chosen.report["warnings"][0]
