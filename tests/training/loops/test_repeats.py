from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.ragged import Ragged
from training.loops.repeats import masking_notice, repeated_targets

ROWS = st.lists(st.tuples(st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9))), max_size=6)


@given(rows=ROWS)
def test_repeats_are_counted_user_by_user(rows: list[tuple[list[int], list[int]]]) -> None:
    targets, seen = (Ragged.from_rows([row[side] for row in rows]) for side in (0, 1))
    assert repeated_targets(targets, seen) == sum(target in old for new, old in rows for target in new)


def test_large_item_numbers_do_not_run_into_the_next_user() -> None:
    most = np.iinfo(np.int32).max
    targets, seen = Ragged.from_rows([[most], [1]]), Ragged.from_rows([[1], [most, 1]])
    assert repeated_targets(targets, seen) == 1


@pytest.mark.parametrize(("repeated", "said"), [(0, False), (50, False), (51, True), (100, True)])
def test_the_key_is_named_where_most_targets_are_masked(repeated: int, said: bool) -> None:
    notice = masking_notice(repeated, 100, "test")
    assert (notice is not None) == said
    if notice is not None:
        assert f"{repeated} of 100 test targets ({repeated}%)" in notice
        assert "evaluate.mask_seen: false" in notice


def test_no_target_is_no_repeat() -> None:
    assert masking_notice(0, 0, "validation") is None
