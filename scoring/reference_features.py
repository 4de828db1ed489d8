"""Features of history and target that tell samples of a reference period from train samples.

All but the length of a history come from counts over the two sets, restricted to the users of other folds
(`scoring.counts.FoldedTally`). With counts to which it contributed, a sample would reveal whose it is rather than when
it was: a user of the reference would find their own history on the other side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scoring.counts import FOLDS, FoldedTally
from scoring.ragged import Ragged

Values = npt.NDArray[np.float64]
Folds = npt.NDArray[np.int64]

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
#: The additional features with times: the mean time of the target, and of the history's items, as targets in train.
TIME_FEATURES = ("target_time", "history_time")

_TRANSITION_BITS = 20  # bits of the hash of (last item, target)
_TIME_STEPS = 1 << 16  # times are integers up to this, so that their sums are exact


class SampleCounts:
    """Counts over one set of samples. They are integers, so neither grouping nor order matters."""

    def __init__(self) -> None:
        self._samples = np.zeros(FOLDS, dtype=np.int64)
        self._histories = np.zeros(FOLDS, dtype=np.int64)
        self._targets = FoldedTally()
        self._history = FoldedTally()

    def add(
        self,
        history: Ragged,
        target: npt.NDArray[np.int32],
        fold: Folds,
        row: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Count samples: targets int32 [N] of users in `fold` int64 [N], each with its own history or that of `row`.

        `row` is int64 [N] or None. An item counts once per history, so that a user with many targets after one history
        is no stronger evidence for its items.
        """
        rows = np.arange(len(target)) if row is None else row
        of_history = np.zeros(len(history), dtype=np.int64)
        of_history[rows] = fold
        self._samples += np.bincount(fold, minlength=FOLDS)
        self._histories += np.bincount(of_history, minlength=FOLDS)
        self._targets.add(target, fold)
        pairs = np.unique((history.row_of_value() << 32) | history.values)
        self._history.add(pairs & 0xFFFFFFFF, of_history[pairs >> 32])

    def samples(self, fold: Folds) -> npt.NDArray[np.int64]:
        """Return the number of samples in the other folds."""
        return self._samples.sum() - self._samples[fold]

    def histories(self, fold: Folds) -> npt.NDArray[np.int64]:
        """Return the number of histories in the other folds."""
        return self._histories.sum() - self._histories[fold]

    def targets(self, items: npt.NDArray[np.int32], fold: Folds) -> npt.NDArray[np.int64]:
        """Return the number of samples in the other folds with each item as their target."""
        return self._targets.of_others(items, fold)

    def in_histories(self, items: npt.NDArray[np.int32], fold: Folds) -> npt.NDArray[np.int64]:
        """Return the number of histories in the other folds that contain each item."""
        return self._history.of_others(items, fold)


class Transitions:
    """Counts of how often each target follows each last item in one set of samples."""

    def __init__(self) -> None:
        self._counts = FoldedTally()

    def add(self, history: Ragged, target: npt.NDArray[np.int32], fold: Folds) -> None:
        """Count targets int32 [N] of users in `fold` int64 [N], each with its own history."""
        self._counts.add(_transition(_last(history), target), fold)

    def of(self, history: Ragged, target: npt.NDArray[np.int32], fold: Folds) -> npt.NDArray[np.int64]:
        """Return the number of samples in other folds with the same last item and target, up to hash collisions."""
        return self._counts.of_others(_transition(_last(history), target), fold)


class ItemTimes:
    """The mean time at which train samples have an item as their target, on a scale from 0 to 1.

    Parameters
    ----------
    low, high : range of the times.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low = low
        self._range = max(high - low, np.finfo(np.float64).tiny)
        self._sums = FoldedTally()
        self._counts = FoldedTally()

    def add(self, target: npt.NDArray[np.int32], timestamp: Values, fold: Folds) -> None:
        """Count targets int32 [N] at times float64 [N], of users in `fold` int64 [N]."""
        steps = np.rint((timestamp - self._low) / self._range * _TIME_STEPS).astype(np.int64)
        self._sums.add(target, fold, steps)
        self._counts.add(target, fold)

    def of(self, items: npt.NDArray[np.int32], fold: Folds) -> Values:
        """Return the mean time of items [N] in the other folds; ½ if nothing is known."""
        sums, counts = self._sums.of_others(items, fold), self._counts.of_others(items, fold)
        return np.where(counts > 0, sums / np.maximum(counts, 1) / _TIME_STEPS, 0.5)


class ReferenceFeatures:
    """Computes the features of samples from the counts of train and reference, and train's transitions and times."""

    def __init__(
        self, train: SampleCounts, reference: SampleCounts, transitions: Transitions, times: ItemTimes | None
    ) -> None:
        self._train = train
        self._reference = reference
        self._transitions = transitions
        self._times = times
        self.names = FEATURES + (TIME_FEATURES if times is not None else ())

    def __call__(self, history: Ragged, target: npt.NDArray[np.int32], fold: Folds) -> Values:
        """Return the features float64 [N, F] of samples of either set, of users in `fold` int64 [N]."""
        row, lengths = history.row_of_value(), np.maximum(history.lengths, 1)
        items, of_items = history.values, fold[row]

        def mean(values: Values) -> Values:
            return np.bincount(row, weights=values, minlength=len(target)) / lengths

        of_target = self._train.targets(target, fold)
        target_ratio = _ratio(
            of_target, self._reference.targets(target, fold), self._train.samples(fold), self._reference.samples(fold)
        )
        of_history = self._train.in_histories(items, of_items)
        ratio = _ratio(
            of_history,
            self._reference.in_histories(items, of_items),
            self._train.histories(of_items),
            self._reference.histories(of_items),
        )
        frequency = np.log1p(of_history)
        last = np.maximum(history.offsets[1:] - 1, 0)
        filled = history.lengths > 0
        padded = (np.append(ratio, 0.0), np.append(frequency, 0.0))
        columns = [
            target_ratio,
            np.log1p(of_target),
            mean(ratio),
            mean(frequency),
            *(np.where(filled, values[last], 0.0) for values in padded),
            np.log1p(history.lengths),
            np.log1p(self._transitions.of(history, target, fold)),
        ]
        if self._times is not None:
            columns += [self._times.of(target, fold), mean(self._times.of(items, of_items))]
        return np.column_stack(columns)


def _ratio(
    train: npt.NDArray[np.int64],
    reference: npt.NDArray[np.int64],
    of_train: npt.NDArray[np.int64],
    of_reference: npt.NDArray[np.int64],
) -> Values:
    """Return ln of reference over expected count, both with one added; 0 if there is no evidence either way.

    `of_train` and `of_reference` [N] are the numbers of samples or histories behind the counts.
    """
    expected = train * (of_reference / np.maximum(of_train, 1))
    return np.log1p(reference) - np.log1p(expected)


def _last(history: Ragged) -> npt.NDArray[np.uint64]:
    """Return the last item of each history; 0 for an empty one."""
    last = np.zeros(len(history), dtype=np.uint64)
    filled = history.lengths > 0
    last[filled] = history.values[history.offsets[1:][filled] - 1]
    return last


def _transition(last: npt.NDArray[np.uint64], target: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the hash bucket of (last item, target) of each sample."""
    mixed = (last << np.uint64(32) | target.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(64 - _TRANSITION_BITS)).astype(np.int64)
