"""The curvature's samples: the draw that every shard can make by itself, and its cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.curvature_draw import CurvatureCut, curvature_keys, first_rows, likely_bound, rows_below


@given(st.integers(0, 2**31), st.integers(1, 400), st.integers(1, 5))
def test_the_lowest_keys_of_the_shards_are_the_draw(seed: int, wanted: int, shards: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 2**62, size=400)
    whole = set(ids[first_rows(curvature_keys(ids), wanted)].tolist())
    sent = [part[rows_below(curvature_keys(part), likely_bound(wanted, 400))] for part in np.array_split(ids, shards)]
    kept = np.concatenate(sent)
    assert len(kept) >= wanted
    assert set(kept[first_rows(curvature_keys(kept), wanted)].tolist()) == whole


def test_how_many_samples_are_taken() -> None:
    cut = CurvatureCut(kept=100)
    assert [cut.size("all", 1000, solver) for solver in ("cg", "lissa")] == [1000, 100]
    assert [cut.size(50, total, "cg") for total in (1000, 20)] == [50, 20]
    assert cut.over_shards(1000, 1000)
    assert not cut.over_shards(100, 100)
    assert not cut.over_shards(200, 1000)


def test_chunks_are_of_one_size_more_or_less_and_keep_the_order() -> None:
    for count, sizes in ((1025, [513, 512]), (1024, [1024]), (3, [3]), (2049, [683] * 3)):
        cuts = CurvatureCut().chunks(np.arange(count))
        assert [len(rows) for rows in cuts] == sizes
        assert np.concatenate(cuts).tolist() == list(range(count))
