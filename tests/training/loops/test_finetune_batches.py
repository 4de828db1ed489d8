from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.loops.finetune_batches import deal, global_batches, steps_per_epoch

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(lambda values: np.array(values, dtype=np.int64))


@given(st.integers(1, 100), st.integers(1, 30), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_takes_every_example_once(examples: int, batch: int, seed: int, epoch: int) -> None:
    batches = global_batches(examples, batch, seed, epoch)
    assert len(batches) == steps_per_epoch(examples, batch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(examples))
    assert all(len(rows) == batch for rows in batches[:-1])


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {(s, e): np.concatenate(global_batches(50, 8, s, e)).tolist() for s in (0, 1) for e in (0, 1)}
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[0, 1] == np.concatenate(global_batches(50, 8, 0, 1)).tolist()


@given(LENGTHS, st.integers(1, 5), st.integers(1, 200))
def test_ranks_share_a_batch_without_loss_in_equally_many_micro_batches(
    lengths: np.ndarray, world: int, micro_tokens: int
) -> None:
    rows = np.arange(len(lengths))
    dealt = [deal(rows, lengths, rank, world, micro_tokens) for rank in range(world)]
    assert len({len(micro) for micro in dealt}) == 1
    flat = [row for micro in dealt for part in micro for row in part.tolist()]
    assert sorted(flat) == rows.tolist()
    for micro in dealt:
        for part in micro:
            assert len(part) <= 1 or len(part) * lengths[part].max() <= micro_tokens


@given(LENGTHS, st.integers(2, 4))
def test_ranks_get_about_the_same_number_of_tokens(lengths: np.ndarray, world: int) -> None:
    rows = np.arange(len(lengths))
    tokens = [sum(int(lengths[part].sum()) for part in deal(rows, lengths, r, world, 10**6)) for r in range(world)]
    assert max(tokens) - min(tokens) <= 2 * int(lengths.max())
