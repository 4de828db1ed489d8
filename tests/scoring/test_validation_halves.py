import numpy as np

from scoring.validation_halves import in_aimed_half, in_choosing_half


def test_every_user_is_in_one_half_and_stays_there() -> None:
    ids = np.random.default_rng(0).integers(0, 2**62, size=10_000)
    aimed = in_aimed_half(ids)
    assert np.array_equal(in_choosing_half(ids), ~aimed)
    assert abs(aimed.mean() - 0.5) < 0.02
    order = np.random.default_rng(1).permutation(len(ids))
    assert np.array_equal(in_aimed_half(ids[order]), aimed[order])
