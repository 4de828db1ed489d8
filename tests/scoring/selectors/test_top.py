from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scoring.ids import draw_order
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import lowest, make_shard, whole_shard


@pytest.mark.parametrize("method", ["el2n", "grand"])
def test_takes_the_hardest(method):
    shard = whole_shard(100)
    chosen = select(lambda: iter([shard]), SelectionParams(method, 9))
    scores = dict(zip(shard.sample_id[shard.ok].tolist(), (-shard.score(method)[shard.ok]).tolist(), strict=True))
    assert chosen.sample_id.tolist() == lowest(scores, 9)
    assert chosen.report["normalise"]["method"] == "none"


def test_adds_influence_and_effort():
    shard = make_shard([0, 10, 5, 0], [0, 0, 8, 10])
    assert select(lambda: iter([shard]), SelectionParams("top", 1, lambda_=0.1)).influence.tolist() == [10]
    assert select(lambda: iter([shard]), SelectionParams("top", 1, lambda_=1.0)).influence.tolist() == [5]


def test_equal_scores_are_drawn():
    shard = replace(whole_shard(300), columns={"el2n": np.ones(300, dtype=np.float32)}, ok=np.ones(300, dtype=bool))
    chosen = select(lambda: iter([shard]), SelectionParams("el2n", 20, seed=3))
    order = shard.sample_id[np.argsort(draw_order(shard.sample_id, 3))]
    assert chosen.sample_id.tolist() == sorted(order[:20].tolist())
