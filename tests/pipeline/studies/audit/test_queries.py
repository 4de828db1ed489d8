from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.sample_tables import SampleShard
from pipeline.studies.audit.queries import Queries
from scoring.ragged import Ragged


def samples(count: int) -> SampleShard:
    return SampleShard(np.arange(count), Ragged.from_rows([[1]] * count), np.ones(count, dtype=np.int32))


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 5))
def test_users_are_dealt_out_evenly_and_none_is_split(users: list[int], wanted: int, seed: int) -> None:
    user = np.array(users)
    queries = Queries.of(samples(len(users)), user, wanted, seed)
    assert queries.count == min(wanted, len(set(users)))
    groups = {number: set(queries.group[user == number].tolist()) for number in set(users)}
    assert all(len(found) == 1 for found in groups.values())
    sizes = np.bincount([found.pop() for found in groups.values()], minlength=queries.count)
    assert sizes.max() - sizes.min() <= 1


def test_weights_make_the_means_of_the_losses() -> None:
    user = np.array([3, 3, 5, 7, 7, 7, 9])
    queries = Queries.of(samples(7), user, 2, 0)
    losses = np.arange(7, dtype=np.float32) ** 2
    expected = [losses[queries.group == group].mean() for group in range(2)]
    np.testing.assert_allclose(queries.means(losses), expected)
    order = np.array([6, 0, 3, 1, 2, 5, 4])
    np.testing.assert_allclose(queries.weights(order) @ losses[order], expected)


def test_another_seed_draws_other_groups() -> None:
    user = np.arange(50)
    first, second = (Queries.of(samples(50), user, 5, seed).group for seed in (0, 1))
    assert not np.array_equal(first, second)
