"""The first items of a ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.ragged import Ragged

Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class TopItems:
    """The first items of U users, best first.

    Attributes
    ----------
    items : the items of each user, at most k; fewer where fewer are candidates.
    scores : float32, one for each of `items.values`.
    """

    items: Ragged
    scores: npt.NDArray[np.float32]


def top_items(
    scores: Scores,
    k: int,
    seen: Ragged | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    groups: npt.NDArray[np.int64] | None = None,
) -> TopItems:
    """Return the k items with the highest scores for each user. Equal scores are ordered by item.

    Parameters
    ----------
    scores : [U, n], higher is better, column j for item j + 1. An item whose score is NaN or minus infinity is no
        candidate.
    seen : items of each user that are no candidates; None excludes none.
    allowed : [n], the items that are candidates for everybody; None allows all.
    groups : [n], equal for items that share a title, of which a list shows the best one, or the first of equals; None
        if no two items do.
    """
    candidate = np.where(np.isnan(scores), -np.inf, scores)
    if seen is not None:
        candidate[seen.row_of_value(), seen.values - 1] = -np.inf
    if allowed is not None:
        candidate[:, ~allowed] = -np.inf
    rows = [_best(row, k, groups) for row in candidate]
    items = Ragged.from_rows([(row + 1).tolist() for row in rows])
    return TopItems(items, candidate[items.row_of_value(), items.values - 1].astype(np.float32))


def _best(scores: Scores, k: int, groups: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """Return the columns of the k highest scores, one for each group."""
    wanted, count = min(k, len(scores)), len(scores)
    while True:
        floor = np.partition(scores, count - wanted)[count - wanted]
        # Keep all columns that tie with the last one, so that equal scores stay in the order of the columns.
        columns = np.flatnonzero((scores >= floor) & (scores > -np.inf))
        columns = columns[np.argsort(-scores[columns], kind="stable")]
        found = columns if groups is None else columns[np.sort(np.unique(groups[columns], return_index=True)[1])]
        if len(found) >= k or wanted == count:
            return found[:k]
        wanted = min(2 * wanted, count)
