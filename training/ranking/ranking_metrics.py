"""All-ranking metrics: the rank of every target among all items, what follows from it, and bootstrap intervals.

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
from training.ranking.cutoffs import CUTOFFS

Values = npt.NDArray[np.float64]
#: A difference below this is a rounding error of a mean.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean over users and its percentile bootstrap interval."""

    mean: float
    low: float
    high: float
    users: int

    @property
    def sign(self) -> int:
        """1 for an interval above zero, -1 for one below it, and 0 for one that holds it."""
        return int(self.low > ROUNDING) - int(self.high < -ROUNDING)


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
    """Return `recall@K`, `ndcg@K`, `mrr@K` and `map@K`, float64 [U], NaN for a user without a target.

    Recall is hits / targets. NDCG has gain 1 per target, and min(targets, K) targets on top as its ideal. MRR is the
    reciprocal of the first target's rank, 0 beyond K. MAP is the sum over hits of the precision at their ranks, divided
    by the number of targets, as trec_eval, ranx and RecTools define it. Two targets that share a title share a rank,
    so NDCG and each precision are capped at 1.
    """
    row = ranks.row_of_value()
    # Order by user, best rank first, so that the hits at any cut-off are the first of each user's targets.
    positions = ranks.values[np.lexsort((ranks.values, row))].astype(np.float64)
    place = np.arange(1, len(row) + 1) - ranks.offsets[row]
    counts = ranks.lengths
    # No user has more hits than targets.
    longest = min(max(cutoffs), int(counts.max(initial=0)))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, longest + 2)))])

    def total(weights: Values) -> Values:
        return np.bincount(row, weights=weights, minlength=len(ranks)).astype(np.float64)

    metrics: dict[str, Values] = {}
    with np.errstate(invalid="ignore"):
        for cutoff in cutoffs:
            hit = (positions <= cutoff).astype(np.float64)
            gains = total(hit / np.log2(positions + 1))
            metrics[f"recall@{cutoff}"] = total(hit) / counts
            metrics[f"ndcg@{cutoff}"] = np.minimum(gains / ideal[np.minimum(counts, cutoff)], 1.0)
            metrics[f"mrr@{cutoff}"] = total((place == 1) * hit / positions) / np.minimum(counts, 1)
            metrics[f"map@{cutoff}"] = total(hit * np.minimum(place / positions, 1.0)) / counts
    return metrics


def bootstrap_means(values: Values, resamples: int = 1000, seed: int = 0) -> Values:
    """Return the means over users drawn with replacement, float64 [resamples], or [resamples, M] for values [M, U].

    The draws depend only on the number of users and the seed, so two arms over the same users are paired. A metric's
    means do not depend on the other metrics, to the last bit, because no matrix product is taken.
    """
    generator, users = np.random.default_rng(seed), values.shape[-1]
    draws = (np.bincount(generator.integers(0, users, users), minlength=users) for _ in range(resamples))
    return np.array([(drawn * values).sum(axis=-1) for drawn in draws]) / users


def summarise(values: Values, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Return the mean and interval over users that have a value; all NaN if no user has one."""
    return summarise_all({"": values}, resamples, seed, level)[""]


def summarise_all(
    metrics: Mapping[str, Values], resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Apply `summarise` to every metric. Metrics that the same users have share their draws."""
    alike: dict[bytes, list[str]] = {}
    for name, values in metrics.items():
        alike.setdefault(np.isnan(values).tobytes(), []).append(name)
    found: dict[str, Interval] = {}
    for names in alike.values():
        found |= _summaries({name: metrics[name] for name in names}, resamples, seed, level)
    return {name: found[name] for name in metrics}


def _summaries(metrics: Mapping[str, Values], resamples: int, seed: int, level: float) -> dict[str, Interval]:
    """Summarise metrics that the same users have."""
    columns = np.stack(list(metrics.values()))
    counted = np.ascontiguousarray(columns[:, ~np.isnan(columns[0])])
    users = counted.shape[1]
    if not users:
        return dict.fromkeys(metrics, Interval(np.nan, np.nan, np.nan, 0))
    tail = (1 - level) / 2
    lows, highs = np.quantile(bootstrap_means(counted, resamples, seed), [tail, 1 - tail], axis=0)
    ends = zip(metrics, counted, lows, highs, strict=True)
    return {name: Interval(float(values.mean()), float(low), float(high), users) for name, values, low, high in ends}


def paired_differences(
    ours: Ragged, theirs: Sequence[Ragged], cutoffs: Sequence[int] = CUTOFFS, seed: int = 0
) -> dict[str, Interval]:
    """Return the mean of each metric's difference by user, ours minus the mean of theirs, with its interval.

    Parameters
    ----------
    ours : ranks of the targets of each user by one model.
    theirs : ranks of the same targets of the same users, in the same order, by each of one or more models.
    """
    mine, others = user_metrics(ours, cutoffs), [user_metrics(ranks, cutoffs) for ranks in theirs]
    differences = {name: mine[name] - np.mean([other[name] for other in others], axis=0) for name in mine}
    return summarise_all(differences, seed=seed)
