"""All-ranking metrics: the rank of every target among all items, Recall@K, NDCG@K and bootstrap intervals.

Conventions. Ranks start at 1. Seen items are not candidates; a target among them cannot be found and gets the number
of items plus one as its rank. Ties count against the target: every item with the same score ranks before it. Items of
one group (the same title) are one answer: a target takes the best score of its group's unseen members, and they do not
rank before it. Other targets of the same user do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scoring.ragged import Ragged
from training.llm.prompts import clean_title

CUTOFFS = (5, 10, 20, 50)
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over users and its percentile bootstrap interval."""

    mean: float
    low: float
    high: float
    users: int


def title_groups(titles: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return group numbers, int64 [n], equal for titles that are equal as the LLM sees them."""
    shown = pa.array([clean_title(title) for title in titles], pa.large_string())
    groups: npt.NDArray[np.int64] = shown.dictionary_encode().indices.to_numpy().astype(np.int64)
    return groups


def rank_targets(
    scores: npt.NDArray[np.floating],
    targets: Ragged,
    seen: Ragged | None = None,
    groups: npt.NDArray[np.int64] | None = None,
) -> Ragged:
    """Return the ranks of the targets, in the rows and order of `targets`.

    Parameters
    ----------
    scores : [U, n], higher is better, column j for item j + 1; NaN counts as minus infinity.
    targets, seen : items of each of the U users; None for `seen` masks nothing.
    groups : [n], equal for items that share a title; None if no two items do.
    """
    count = scores.shape[1]
    # Masked scores are NaN, for which every comparison is false.
    candidate = np.where(np.isnan(scores), -np.inf, scores)
    if seen is not None:
        candidate[seen.row_of_value(), seen.values - 1] = np.nan
    row, column = targets.row_of_value(), targets.values.astype(np.int64) - 1
    best = candidate[row, column]
    own = np.ones(len(best), dtype=np.int64)
    if groups is not None:
        for target, members in _shared(groups, column):
            member_scores = candidate[row[target], members]
            if not np.isnan(best[target]):
                best[target] = np.nanmax(member_scores)
                own[target] = np.count_nonzero(member_scores >= best[target])
    ranks = np.empty(len(best), dtype=np.int32)
    step = max(1, (1 << 26) // max(count, 1))
    for start in range(0, len(best), step):
        part = slice(start, start + step)
        above = (candidate[row[part]] >= best[part, None]).sum(axis=1)
        ranks[part] = np.where(np.isnan(best[part]), count + 1, above - own[part] + 1)
    return Ragged(ranks, targets.offsets)


def _shared(
    groups: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the indices into `columns` of items that share their group, with the columns of the whole group."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.searchsorted(ordered, groups[columns], side="left")
    last = np.searchsorted(ordered, groups[columns], side="right")
    for target in np.flatnonzero(last - first > 1):
        yield int(target), order[first[target] : last[target]]


def select_targets(ranks: Ragged, chosen: npt.NDArray[np.bool_]) -> Ragged:
    """Keep the ranks whose flag in `chosen` (one per target) is true. All users stay, possibly without targets."""
    kept = np.bincount(ranks.row_of_value()[chosen], minlength=len(ranks))
    return Ragged(ranks.values[chosen], np.concatenate([[0], np.cumsum(kept)]).astype(np.int64))


def user_metrics(ranks: Ragged, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, Values]:
    """Return `recall@K` and `ndcg@K`, float64 [U], NaN for a user without a target.

    Recall is hits / targets. NDCG has gain 1 per target, and min(targets, K) targets on top as its ideal. It is capped
    at 1, which two targets that share a title could exceed.
    """
    row = ranks.row_of_value()
    positions = ranks.values.astype(np.float64)
    counts = ranks.lengths
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max(cutoffs) + 2)))])
    metrics: dict[str, Values] = {}
    with np.errstate(invalid="ignore"):
        for cutoff in cutoffs:
            hit = positions <= cutoff
            hits = np.bincount(row, weights=hit, minlength=len(ranks))
            gains = np.bincount(row, weights=hit / np.log2(positions + 1), minlength=len(ranks))
            metrics[f"recall@{cutoff}"] = hits / counts
            metrics[f"ndcg@{cutoff}"] = np.minimum(gains / ideal[np.minimum(counts, cutoff)], 1.0)
    return metrics


def bootstrap_means(values: Values, resamples: int = 1000, seed: int = 0) -> Values:
    """Return the means over users drawn with replacement, float64 [resamples].

    The draws depend only on the number of users and the seed, so two arms over the same users are paired.
    """
    generator = np.random.default_rng(seed)
    return np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(resamples)])


def summarise(values: Values, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Return the mean and interval over users that have a value; all NaN if no user has one."""
    counted = values[~np.isnan(values)]
    if len(counted) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(counted, resamples, seed), [tail, 1 - tail])
    return Interval(float(counted.mean()), float(low), float(high), len(counted))


def summarise_all(metrics: Mapping[str, Values], resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Apply `summarise` to every metric, with the same draws."""
    return {name: summarise(values, resamples, seed) for name, values in metrics.items()}
