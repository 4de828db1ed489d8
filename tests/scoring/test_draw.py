from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.draw import Rows, StratifiedDraw
from scoring.ids import draw_order


def rows_of(ids: np.ndarray, strata: np.ndarray, seed: int = 0) -> Rows:
    column = ids.astype(np.float32)
    return Rows(draw_order(ids, seed), strata.astype(np.int32), ids, column, column + 1, column + 2)


def drawn(parts: list[Rows], budgets: np.ndarray) -> list[int]:
    draw = StratifiedDraw(budgets)
    for part in parts:
        draw.offer(part)
    return draw.result().sample_id.tolist()


@given(st.data())
@settings(deadline=None)
def test_lowest_keys_of_each_stratum_in_any_order_and_grouping(data):
    count = data.draw(st.integers(0, 200))
    budgets = np.array(data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=5)))
    ids = np.arange(count, dtype=np.int64) * 31
    strata = np.array(
        data.draw(st.lists(st.integers(0, len(budgets) - 1), min_size=count, max_size=count)), dtype=np.int32
    )
    expected = [
        int(i)
        for k, budget in enumerate(budgets)
        for i in sorted(ids[strata == k], key=lambda i: int(draw_order(np.array([i]), 0)[0]))[:budget]
    ]
    order = np.array(data.draw(st.permutations(range(count))), dtype=np.int64)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    parts = [rows_of(ids[part], strata[part]) for part in np.split(order, cuts)]
    assert drawn(parts, budgets) == expected


def test_merging_draws_of_parts_is_the_draw_of_all():
    ids = np.arange(20_000, dtype=np.int64)
    strata, budgets = ids % 3, np.array([5, 700, 40])
    left, right, both = StratifiedDraw(budgets), StratifiedDraw(budgets), StratifiedDraw(budgets)
    left.offer(rows_of(ids[:9000], strata[:9000]))
    right.offer(rows_of(ids[9000:], strata[9000:]))
    both.offer(left.result())
    both.offer(right.result())
    assert both.result().sample_id.tolist() == drawn([rows_of(ids, strata)], budgets)


def test_a_long_stream_is_compacted_without_loss():
    ids = np.arange(50_000, dtype=np.int64)
    strata, budgets = ids % 2, np.array([30, 10])
    parts = [rows_of(ids[at : at + 100], strata[at : at + 100]) for at in range(0, len(ids), 100)]
    assert drawn(parts, budgets) == drawn([rows_of(ids, strata)], budgets)


def test_columns_stay_together():
    ids = np.arange(100, dtype=np.int64)
    draw = StratifiedDraw(np.array([10]))
    draw.offer(rows_of(ids, np.zeros(100)))
    rows = draw.result()
    np.testing.assert_array_equal(rows.influence, rows.sample_id)
    np.testing.assert_array_equal(rows.effort, rows.sample_id + 1)
    np.testing.assert_array_equal(rows.score, rows.sample_id + 2)
