from __future__ import annotations

import math

import numpy as np
import pytest

from scoring.ragged import Ragged
from scoring.reference_features import FEATURES, TIME_FEATURES, ItemTimes, ReferenceFeatures, SampleCounts

TRAIN = [([1, 2, 2], 3), ([2], 3), ([4, 1], 2), ([3, 2], 3), ([5], 1)]
AIMED = [([2, 1], 3), ([1], 6), ([2, 2, 4], 3)]
TIMES = [0.0, 10.0, 5.0, 10.0, 2.0]


def split(samples: list[tuple[list[int], int]]) -> tuple[Ragged, np.ndarray]:
    return Ragged.from_rows([row for row, _ in samples]), np.array([target for _, target in samples], dtype=np.int32)


def counts(samples: list[tuple[list[int], int]]) -> SampleCounts:
    total = SampleCounts()
    for sample in samples:
        total.add(*split([sample]))
    return total


def by_hand(samples: list[tuple[list[int], int]], of_reference: bool) -> list[list[float]]:
    """The features of each sample, with the sample itself taken out of its own set."""
    rows = []
    for place, (history, target) in enumerate(samples):
        train = TRAIN if of_reference else TRAIN[:place] + TRAIN[place + 1 :]
        aimed = AIMED[:place] + AIMED[place + 1 :] if of_reference else AIMED

        def ratio(test, train=train, aimed=aimed) -> tuple[float, float]:
            seen, wanted = sum(map(test, train)), sum(map(test, aimed))
            return math.log1p(wanted) - math.log1p(seen * len(aimed) / len(train)), math.log1p(seen)

        by_item = [ratio(lambda sample, item=item: item in sample[0]) for item in history]
        steps = sum(other[0][-1] == history[-1] and other[1] == target for other in train)
        rows.append(
            [
                *ratio(lambda sample, target=target: sample[1] == target),
                *np.mean(by_item, axis=0),
                *by_item[-1],
                math.log1p(len(history)),
                math.log1p(steps),
            ]
        )
    return rows


@pytest.mark.parametrize(("samples", "of_reference"), [(TRAIN, False), (AIMED, True)])
def test_features_leave_the_sample_itself_out(samples, of_reference):
    features = ReferenceFeatures(counts(TRAIN), counts(AIMED), None)
    found = features(*split(samples), of_reference=of_reference)
    assert features.names == FEATURES
    np.testing.assert_allclose(found, by_hand(samples, of_reference), atol=1e-12)


def test_item_times_leave_the_sample_itself_out():
    times = ItemTimes(0.0, 10.0)
    history, target = split(TRAIN)
    times.add(target, np.array(TIMES))
    features = ReferenceFeatures(counts(TRAIN), counts(AIMED), times)
    assert features.names == FEATURES + TIME_FEATURES
    found = features(history, target, of_reference=False, timestamp=np.array(TIMES))[:, -2:]
    # Item 3 is a target at 0, 10 and 10; items 1 and 2 at 2 and 5, once each; 4 and 5 never.
    np.testing.assert_allclose(found[:, 0], [1.0, 0.5, 0.5, 0.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(found[:, 1], [0.4, 0.5, 0.35, (2 / 3 + 0.5) / 2, 0.5], atol=1e-4)


def test_an_empty_history_has_features_too():
    features = ReferenceFeatures(counts(TRAIN), counts(AIMED), None)
    found = features(Ragged.from_rows([[], [1]]), np.array([3, 6], dtype=np.int32), of_reference=True)
    assert np.isfinite(found).all()
    assert found[0, 2:7].tolist() == [0.0] * 5
