from __future__ import annotations

import math

import numpy as np
import pytest

from scoring.counts import FOLDS, user_folds
from scoring.ragged import Ragged
from scoring.reference_features import FEATURES, TIME_FEATURES, ItemTimes, ReferenceFeatures, SampleCounts, Transitions

#: (user, history, target); users 1 and 5 share a fold, and so do 2 and 6.
TRAIN = [(1, [1, 2, 2], 3), (1, [2], 3), (2, [4, 1], 2), (5, [3, 2], 3), (3, [5], 1)]
AIMED = [(1, [2, 1], 3), (6, [1], 6), (3, [2, 2, 4], 3)]
TIMES = [0.0, 10.0, 5.0, 10.0, 2.0]

Samples = list[tuple[int, list[int], int]]


def split(samples: Samples) -> tuple[Ragged, np.ndarray, np.ndarray]:
    users, histories, targets = zip(*samples, strict=True)
    return Ragged.from_rows(histories), np.array(targets, dtype=np.int32), user_folds(np.array(users, dtype=np.int64))


def counted(total: SampleCounts | Transitions, samples: Samples) -> None:
    for sample in samples:
        total.add(*split([sample]))


def features_by(times: ItemTimes | None = None) -> ReferenceFeatures:
    train, aimed, transitions = SampleCounts(), SampleCounts(), Transitions()
    counted(train, TRAIN)
    counted(transitions, TRAIN)
    counted(aimed, AIMED)
    return ReferenceFeatures(train, aimed, transitions, times)


def by_hand(samples: Samples) -> list[list[float]]:
    """Return the features of each sample from the users of the other folds."""
    rows = []
    for user, history, target in samples:
        train = [other for other in TRAIN if (other[0] - user) % FOLDS]
        aimed = [other for other in AIMED if (other[0] - user) % FOLDS]

        def ratio(test, train=train, aimed=aimed) -> tuple[float, float]:
            seen, wanted = sum(map(test, train)), sum(map(test, aimed))
            return math.log1p(wanted) - math.log1p(seen * len(aimed) / len(train)), math.log1p(seen)

        by_item = [ratio(lambda sample, item=item: item in sample[1]) for item in history]
        steps = sum(other[1][-1] == history[-1] and other[2] == target for other in train)
        rows.append(
            [
                *ratio(lambda sample, target=target: sample[2] == target),
                *np.mean(by_item, axis=0),
                *by_item[-1],
                math.log1p(len(history)),
                math.log1p(steps),
            ]
        )
    return rows


@pytest.mark.parametrize("samples", [TRAIN, AIMED])
def test_features_are_of_the_users_of_other_folds(samples):
    features = features_by()
    assert features.names == FEATURES
    np.testing.assert_allclose(features(*split(samples)), by_hand(samples), atol=1e-12)


def test_a_history_with_many_targets_counts_once():
    several = SampleCounts()
    history, _, fold = split([AIMED[0], AIMED[2]])
    several.add(history, np.array([3, 9, 3], dtype=np.int32), fold[[0, 0, 1]], np.array([0, 0, 1]))
    asked, other = np.array([1, 2, 4], dtype=np.int32), np.full(3, user_folds(np.array([4]))[0])
    assert several.in_histories(asked, other).tolist() == [1, 2, 1]
    assert several.histories(other).tolist() == [2, 2, 2]
    assert several.samples(other).tolist() == [3, 3, 3]


def test_item_times_are_of_the_users_of_other_folds():
    times = ItemTimes(0.0, 10.0)
    history, target, fold = split(TRAIN)
    times.add(target, np.array(TIMES), fold)
    features = features_by(times)
    assert features.names == FEATURES + TIME_FEATURES
    found = features(history, target, fold)[:, -2:]
    # Item 3 is a target at 0, 10 and 10, all in one fold; item 2 at 5, item 1 at 2; items 4 and 5 never.
    np.testing.assert_allclose(found[:, 0], [0.5, 0.5, 0.5, 0.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(found[:, 1], [(0.2 + 0.5 + 0.5) / 3, 0.5, 0.35, 0.5, 0.5], atol=1e-4)
    others = times.of(np.array([3, 2], dtype=np.int32), np.array([0, 0]))
    np.testing.assert_allclose(others, [2 / 3, 0.5], atol=1e-4)


def test_an_empty_history_has_features_too():
    features = features_by()
    found = features(*split([(9, [], 3), (9, [1], 6)]))
    assert np.isfinite(found).all()
    assert found[0, 2:7].tolist() == [0.0] * 5
