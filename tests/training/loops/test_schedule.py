from __future__ import annotations

import pytest

from training.loops.schedule import Patience, seed_of, warm_up, warm_up_cosine


def test_warm_up_rises_to_one_and_stays() -> None:
    assert [warm_up(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0


def test_cosine_falls_from_one_to_zero() -> None:
    factors = [warm_up_cosine(step, 2, 10) for step in range(11)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.0)
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_seeds_of_places_do_not_collide() -> None:
    assert len({seed_of(a, b) for a in range(30) for b in range(30)}) == 900
    assert seed_of(1, 23) != seed_of(12, 3)
    assert 0 <= seed_of("x") < 2**63


@pytest.mark.parametrize(("larger", "values"), [(True, [0.1, 0.3, 0.2, 0.3]), (False, [3.0, 1.0, 2.0, 1.0])])
def test_patience_counts_epochs_since_the_best(larger: bool, values: list[float]) -> None:
    patience = Patience(2, larger)
    states = []
    for epoch, value in enumerate(values, start=1):
        patience = patience.after(epoch, value)
        states.append((patience.best_epoch, patience.exhausted(epoch)))
    assert states == [(1, False), (2, False), (2, False), (2, True)]


def test_no_patience_never_stops() -> None:
    assert not Patience(0, True).after(1, 1.0).exhausted(100)
