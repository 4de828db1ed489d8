from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import reference_choice, whole_shard


def test_covers_the_range_of_popularity_as_in_memory():
    target = np.repeat([1, 2, 3, 4], [1, 5, 30, 84]).astype(np.int32)
    shard = replace(whole_shard(120, seed=5), target=target)
    params = SelectionParams("popularity", size=20, strata=4, seed=2)
    chosen = select(lambda: iter([shard]), params)
    counts = Counter(target.tolist())
    popularity = np.array([np.log(counts[item]) for item in target.tolist()], dtype=np.float32)
    alone = replace(shard, influence=popularity, effort=np.zeros(120, dtype=np.float32))
    expected = reference_choice(alone, replace(params, hard_prune=0.0))
    assert dict(zip(chosen.sample_id.tolist(), chosen.stratum.tolist(), strict=True)) == expected
    picks = [stratum["picks"] for stratum in chosen.report["strata"] if stratum["samples"]]
    assert max(picks) - min(picks[1:]) <= 12


def test_a_narrow_range_is_told_without_a_remedy_that_changes_nothing():
    target = np.concatenate([np.repeat(1, 500), np.arange(2, 12)]).astype(np.int32)
    shard = replace(whole_shard(510, seed=5), target=target)
    (warning,) = select(lambda: iter([shard]), SelectionParams("popularity", size=20)).report["warnings"]
    assert warning.endswith("fall into stratum 49 of 50")
