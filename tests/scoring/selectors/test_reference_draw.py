from __future__ import annotations

from scoring.ids import draw_order
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import only_shard, reference_samples, whole_shard


def test_draws_as_many_from_the_reference_as_are_asked_of_train():
    reference = reference_samples(60)
    chosen = select(lambda: iter([whole_shard(100)]), SelectionParams("reference", 0.2, seed=6), reference)
    ids = only_shard(reference).sample_id
    assert chosen.sample_id.tolist() == sorted(ids[draw_order(ids, 6).argsort()[:20]].tolist())
    assert chosen.report["warnings"] == []


def test_a_small_reference_is_taken_whole_and_said_to_be():
    chosen = select(lambda: iter([whole_shard(100)]), SelectionParams("reference", 20), reference_samples(7))
    assert len(chosen.sample_id) == 7
    assert "has 7" in chosen.report["warnings"][0]
