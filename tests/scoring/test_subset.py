from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.ids import draw_order
from scoring.subset import Subset


@given(st.integers(1, 60), st.integers(1, 70), st.data())
def test_keeps_the_lowest_keys_in_their_order(count, size, data):
    ids = np.arange(count, dtype=np.int64)
    order = np.array(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=6)))
    subset = Subset(size, seed=3)
    for part in np.split(order, cuts):
        subset.offer(ids[part], ids[part].astype(np.float64)[:, None] * 2)
    expected = np.argsort(draw_order(ids, 3))[:size]
    assert subset.values()[:, 0].tolist() == (expected * 2.0).tolist()
