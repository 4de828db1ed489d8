"""What tells a sample of a reference period from one of train: features of its history and its target.

All come from counts over the two sets. A sample's own share in a count is taken out before it is looked up, since
otherwise every sample of the smaller set would show by having counted itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.counts import Tally
from scoring.ragged import Ragged

Values = npt.NDArray[np.float64]

#: ln of reference over train frequency, and ln of train frequency, of the target, of the history's items (mean), and
#: of the last item; ln history length; ln of how often train goes from the last item to the target.
FEATURES = (
    "target_ratio",
    "target_train",
    "history_ratio",
    "history_train",
    "last_ratio",
    "last_train",
    "history_length",
    "transition_train",
)
#: The same with the mean time of an item's train interactions as targets, 0 to 1: of target, and of history (mean).
TIME_FEATURES = ("target_time", "history_time")

_TRANSITIONS = 1 << 20  # buckets that (last item, target) is hashed to
_TIME_STEPS = 1 << 16  # times are whole numbers from 0 to here, so that their sums are exact


class SampleCounts:
    """Counts over one set of samples; integers, so neither grouping nor order matters.

    Attributes
    ----------
    samples, histories : how many.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.histories = 0
        self._targets = Tally()
        self._history = Tally()
        self._transitions = np.zeros(_TRANSITIONS, dtype=np.int64)

    def add(self, history: Ragged, target: npt.NDArray[np.int32], row: npt.NDArray[np.int64] | None = None) -> None:
        """Count samples: targets int32 [N], each after the history of its own, or after that of `row` int64 [N].

        An item counts once a history, so that a user with many targets after one history is no stronger evidence for
        its items, and is not told by having counted them many times.
        """
        self.samples += len(target)
        self.histories += len(history)
        self._targets.add(target)
        pairs = np.unique((history.row_of_value() << 32) | history.values)
        self._history.add(pairs & 0xFFFFFFFF)
        steps = _transition(_last(history) if row is None else _last(history)[row], target)
        self._transitions += np.bincount(steps, minlength=_TRANSITIONS)

    def targets(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Samples with each of the items as their target."""
        return self._targets.of(items)

    def in_histories(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Histories with each of the items."""
        return self._history.of(items)

    def transitions(self, history: Ragged, target: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Samples with the last item and the target of each of these, up to collisions of the hash."""
        return self._transitions[_transition(_last(history), target)]


class ItemTimes:
    """The mean time at which train samples have an item as their target, on a scale from 0 to 1.

    Parameters
    ----------
    low, high : the range of the times.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low = low
        self._range = max(high - low, np.finfo(np.float64).tiny)
        self._sums = Tally()
        self._counts = Tally()

    def _steps(self, timestamp: Values) -> npt.NDArray[np.int64]:
        return np.rint((timestamp - self._low) / self._range * _TIME_STEPS).astype(np.int64)

    def add(self, target: npt.NDArray[np.int32], timestamp: Values) -> None:
        self._sums.add(target, self._steps(timestamp))
        self._counts.add(target)

    def of(self, items: npt.NDArray[np.int32], own: Values | None = None) -> Values:
        """The mean time of items [N]; `own` are times to leave out, one an item. ½ where nothing is known."""
        sums, counts = self._sums.of(items), self._counts.of(items)
        if own is not None:
            sums, counts = sums - self._steps(own), counts - 1
        return np.where(counts > 0, sums / np.maximum(counts, 1) / _TIME_STEPS, 0.5)


class ReferenceFeatures:
    """The features of samples, given the counts of train and of the reference."""

    def __init__(self, train: SampleCounts, reference: SampleCounts, times: ItemTimes | None) -> None:
        self._train = train
        self._reference = reference
        self._times = times
        self.names = FEATURES + (TIME_FEATURES if times is not None else ())

    def __call__(
        self,
        history: Ragged,
        target: npt.NDArray[np.int32],
        of_reference: bool,
        timestamp: Values | None = None,
    ) -> Values:
        """float64 [N, F] of samples that are counted in the reference, or in train.

        `timestamp` [N] is that of train samples, where times are known.
        """
        own = (0, 1) if of_reference else (1, 0)
        row, lengths = history.row_of_value(), np.maximum(history.lengths, 1)

        def mean(values: Values) -> Values:
            return np.bincount(row, weights=values, minlength=len(target)) / lengths

        samples = (self._train.samples - own[0], self._reference.samples - own[1])
        whole = (self._train.histories - own[0], self._reference.histories - own[1])

        def pair(
            train: npt.NDArray[np.int64], reference: npt.NDArray[np.int64], sizes: tuple[int, int]
        ) -> tuple[Values, Values]:
            return _ratio(train - own[0], reference - own[1], sizes), np.log1p(train - own[0])

        items = history.values
        ratio, frequency = pair(self._train.in_histories(items), self._reference.in_histories(items), whole)
        last = np.maximum(history.offsets[1:] - 1, 0)
        filled = history.lengths > 0
        padded = (np.append(ratio, 0.0), np.append(frequency, 0.0))
        columns = [
            *pair(self._train.targets(target), self._reference.targets(target), samples),
            mean(ratio),
            mean(frequency),
            *(np.where(filled, values[last], 0.0) for values in padded),
            np.log1p(history.lengths),
            np.log1p(self._train.transitions(history, target) - own[0]),
        ]
        if self._times is not None:
            columns += [self._times.of(target, None if of_reference else timestamp), mean(self._times.of(items))]
        return np.column_stack(columns)


def _ratio(train: npt.NDArray[np.int64], reference: npt.NDArray[np.int64], sizes: tuple[int, int]) -> Values:
    """ln of reference over expected count, both with one added: 0 where there is no evidence either way.

    `sizes` : of train and of the reference, in what is counted.
    """
    expected = train * (sizes[1] / max(sizes[0], 1))
    return np.log1p(reference) - np.log1p(expected)


def _last(history: Ragged) -> npt.NDArray[np.uint64]:
    """The last item of each history; 0 of an empty one."""
    last = np.zeros(len(history), dtype=np.uint64)
    filled = history.lengths > 0
    last[filled] = history.values[history.offsets[1:][filled] - 1]
    return last


def _transition(last: npt.NDArray[np.uint64], target: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The bucket of (last item, target) of each sample."""
    mixed = (last << np.uint64(32) | target.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(44)).astype(np.int64)
