from __future__ import annotations

from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import whole_shard


def test_takes_every_usable_sample_whatever_the_size():
    shard = whole_shard(50)
    chosen = select(lambda: iter([shard]), SelectionParams("full", 0.02))
    assert chosen.sample_id.tolist() == sorted(shard.sample_id[shard.ok].tolist())
    assert chosen.report["budget"] == chosen.report["chosen"] == int(shard.ok.sum())
    assert chosen.report["warnings"] == []
