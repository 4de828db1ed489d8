from __future__ import annotations

import numpy as np

from scoring.ids import draw_order
from scoring.selection import ScoreShard, required_scores
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select


def shard_of(ids: np.ndarray, ok: np.ndarray | None = None) -> ScoreShard:
    nothing = np.full(len(ids), np.nan, dtype=np.float32)
    return ScoreShard(ids, nothing, nothing, np.ones(len(ids), bool) if ok is None else ok)


def test_needs_no_scores_and_draws_by_key():
    ids = np.arange(1000, dtype=np.int64)
    shards = [shard_of(ids[at : at + 90]) for at in range(0, 1000, 90)]
    chosen = select(lambda: iter(shards), SelectionParams("random", size=0.05, seed=7))
    assert required_scores("random") == ()
    assert chosen.sample_id.tolist() == sorted(ids[np.argsort(draw_order(ids, 7))][:50].tolist())
    assert np.isnan(chosen.score).all()
    assert chosen.report["chosen"] == chosen.report["budget"] == 50


def test_seeds_differ_and_repeat():
    shard = shard_of(np.arange(1000, dtype=np.int64))
    one, two, again = (
        set(select(lambda: iter([shard]), SelectionParams("random", size=100, seed=seed)).sample_id.tolist())
        for seed in (1, 2, 1)
    )
    assert one == again
    assert len(one & two) < 30


def test_takes_all_usable_and_says_so():
    ids = np.arange(10, dtype=np.int64)
    chosen = select(lambda: iter([shard_of(ids, ids < 4)]), SelectionParams("random", size=6))
    assert chosen.sample_id.tolist() == [0, 1, 2, 3]
    assert "all 4 usable" in chosen.report["warnings"][0]
