from hashlib import blake2b

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.ids import draw_order, sample_ids, user_keys, user_shard


def test_an_id_is_63_bits_of_the_hash_of_user_and_position() -> None:
    digest = blake2b(b"u1", digest_size=8, salt=(7).to_bytes(8, "little")).digest()
    assert sample_ids(["u1"], [7]).tolist() == [int.from_bytes(digest, "little") >> 1]


@given(st.lists(st.tuples(st.text(), st.integers(0, 2**40)), min_size=1, max_size=50, unique=True))
def test_ids_differ_and_do_not_depend_on_order(pairs: list[tuple[str, int]]) -> None:
    users, places = [user for user, _ in pairs], [place for _, place in pairs]
    ids = sample_ids(users, places)
    assert len(set(ids.tolist())) == len(pairs)
    assert (ids >= 0).all()
    assert sample_ids(users[::-1], places[::-1]).tolist() == ids.tolist()[::-1]


@given(st.lists(st.text(), max_size=50), st.integers(1, 10))
def test_a_users_shard_is_its_own(users: list[str], shards: int) -> None:
    numbers = user_shard(users, shards)
    assert ((numbers >= 0) & (numbers < shards)).all()
    assert numbers.tolist() == [int(user_shard([user], shards)[0]) for user in users]


@given(st.lists(st.text(), min_size=1, max_size=50, unique=True))
def test_a_users_key_is_its_own(users: list[str]) -> None:
    keys = user_keys(users)
    assert len(set(keys.tolist())) == len(users)
    assert (keys >= 0).all()
    assert user_keys(users[::-1]).tolist() == keys.tolist()[::-1]


def test_shards_are_even() -> None:
    counts = np.bincount(user_shard([str(user) for user in range(10_000)], 8))
    assert counts.min() > 1100


def test_another_seed_gives_an_independent_order() -> None:
    ids = sample_ids([str(user) for user in range(4000)], np.zeros(4000, dtype=np.int64))
    first, second = draw_order(ids, 0), draw_order(ids, 1)
    assert np.array_equal(first, draw_order(ids, 0))
    ranks = np.argsort(np.argsort(first)), np.argsort(np.argsort(second))
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.06


def test_the_draw_is_uniform_over_consecutive_ids() -> None:
    keys = draw_order(np.arange(100_000, dtype=np.int64), 3)
    counts = np.histogram(keys.astype(np.float64) / 2**64, bins=20, range=(0, 1))[0]
    assert abs(counts - 5000).max() < 5 * np.sqrt(5000)
