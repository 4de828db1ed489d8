"""Item counts over a stream of samples. They are integers, so the order of the stream has no effect."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Tally:
    """Totals by item index, for a growing range of indices; items never seen have 0."""

    def __init__(self) -> None:
        self._totals = np.zeros(0, dtype=np.int64)

    def add(self, items: npt.NDArray[np.integer], amounts: npt.NDArray[np.int64] | None = None) -> None:
        """Add one for each of the items [N], or the given `amounts` int64 [N]."""
        if not len(items):
            return
        missing = int(items.max()) + 1 - len(self._totals)
        if missing > 0:
            self._totals = np.pad(self._totals, (0, missing))
        if amounts is None:
            self._totals += np.bincount(items, minlength=len(self._totals))
        else:
            np.add.at(self._totals, items, amounts)

    def of(self, items: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Return the totals of the items [N], int64 [N]."""
        totals = np.zeros(len(items), dtype=np.int64)
        known = items < len(self._totals)
        totals[known] = self._totals[items[known]]
        return totals


#: Number of folds of users, which are assigned by hash.
FOLDS = 4


def user_folds(user: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the fold, 0 to `FOLDS` − 1, of each user key int64 [N] (`scoring.ids.user_keys`)."""
    return user % FOLDS


class FoldedTally:
    """A tally that excludes a user's own fold when queried.

    Nothing that a user did, on either side of a comparison, is then evidence about that user. This is cross-fitting, as
    in Chernozhukov et al., "Double/debiased machine learning", The Econometrics Journal 21, 2018.
    """

    def __init__(self) -> None:
        self._all = Tally()
        self._by_fold = Tally()

    def add(
        self,
        items: npt.NDArray[np.integer],
        fold: npt.NDArray[np.int64],
        amounts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Add one, or the given `amounts` int64 [N], for each of the items [N] of users in `fold` int64 [N]."""
        self._all.add(items, amounts)
        self._by_fold.add(_fold_keys(items, fold), amounts)

    def of_others(self, items: npt.NDArray[np.integer], fold: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the totals of the items [N] over all folds except `fold` int64 [N], int64 [N]."""
        return self._all.of(items) - self._by_fold.of(_fold_keys(items, fold))


def _fold_keys(items: npt.NDArray[np.integer], fold: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return items.astype(np.int64) * FOLDS + fold
