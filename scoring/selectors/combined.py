"""One score a sample out of several normalised ones, and the cut that drops the highest.

Streams over the shards. No pass when the normalisation needs the ranges alone (`minmax`), two to three otherwise;
two for the cut, and one more (of very many samples, up to four) when equal scores straddle it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order
from scoring.normalise import NORMALISATIONS, Anchors, ScoreMap
from scoring.order_statistics import Keys, RankSearch, WeightedKeys, float_keys, key_floats, run_searches
from scoring.selectors.score_shard import ScoreShard, Shards
from scoring.selectors.score_survey import ScoreSurvey, usable_rows

#: The order by which ties are cut is of its own.
_TIES = 0x5449455321


@dataclass(frozen=True)
class Scored:
    """The usable samples of a shard: columns of one length; `weight` as in `ScoreShard`."""

    sample_id: npt.NDArray[np.int64]
    influence: npt.NDArray[np.float32]
    effort: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    weight: npt.NDArray[np.int64] | None = None

    def take(self, rows: npt.NDArray[np.bool_]) -> Scored:
        weight = None if self.weight is None else self.weight[rows]
        return Scored(self.sample_id[rows], self.influence[rows], self.effort[rows], self.score[rows], weight)


@dataclass(frozen=True)
class Scorer:
    """The combined score of samples, float32: ties are real ties, and it sorts by its 32 bits.

    Attributes
    ----------
    maps : the normalisation of each score.
    weights : of each normalised score in the sum.
    """

    maps: Mapping[str, ScoreMap]
    weights: Mapping[str, float]

    @classmethod
    def fit(cls, shards: Shards, counts: ScoreSurvey, normalise: str, weights: Mapping[str, float]) -> Scorer:
        """Fit the normalisation of each score to the usable rows, each as often as its weight says."""
        anchors: Anchors = NORMALISATIONS[normalise](counts.weight)
        inner = (anchors.ranks > 0) & (anchors.ranks < counts.weight - 1)

        def stream() -> Iterator[tuple[Keys | WeightedKeys, ...]]:
            for shard in shards():
                usable = usable_rows(shard, tuple(weights))
                weight = None if shard.weight is None else shard.weight[usable]
                yield tuple(_weighed(float_keys(shard.score(name)[usable]), weight) for name in weights)

        searches = run_searches(stream, [RankSearch.start(anchors.ranks[inner], 32)] * len(weights))
        maps = {}
        for name, search in zip(weights, searches, strict=True):
            values = np.where(anchors.ranks == 0, counts.low[name], counts.high[name]).astype(np.float32)
            values[inner] = key_floats(search.found)
            maps[name] = ScoreMap.fit(anchors, values)
        return cls(maps, weights)

    def __call__(self, shard: ScoreShard) -> npt.NDArray[np.float32]:
        """Return the scores [N] of samples that may be chosen."""
        score = np.zeros(len(shard.sample_id))
        for name, scale in self.maps.items():
            score = score + self.weights[name] * scale(shard.score(name))
        return score.astype(np.float32)


def _weighed(keys: Keys, weight: npt.NDArray[np.int64] | None) -> Keys | WeightedKeys:
    return keys if weight is None else WeightedKeys(keys, weight)


@dataclass(frozen=True)
class Cut:
    """What the hard prune leaves: the samples that come before the cut in the order of (score, key).

    Attributes
    ----------
    low, high : smallest and largest score before the cut.
    score : the first dropped score; infinite if none is dropped.
    key : of the samples with exactly that score, those with a lower key (`tie_order`) remain.
    """

    low: float
    high: float
    score: float = np.inf
    key: int = 0

    def remaining(self, scored: Scored, seed: int) -> Scored:
        """Return the samples that remain."""
        keep = scored.score < np.float32(self.score)
        if self.key:
            tied = np.flatnonzero(scored.score == np.float32(self.score))
            keep[tied] = tie_order(scored.sample_id[tied], seed) < np.uint64(self.key)
        return scored.take(keep)


def tie_order(sample_id: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Return the order, uint64 [N], in which equal scores are cut. That of the draw would favour what remains."""
    return draw_order(sample_id, seed ^ _TIES)


def find_cut(stream: Callable[[], Iterator[Scored]], seed: int, weight: int, dropped: int) -> Cut:
    """Find the cut that drops the last samples in the order of (score, key) that weigh `dropped` of `weight`.

    `stream` begins a pass over the usable samples.

    Without weights these are exactly so many samples. With them, the sample in which the cut falls remains.
    """
    first = weight - dropped
    ranks = [0, first - 1] + ([first] if dropped else [])

    def scores() -> Iterator[tuple[Keys | WeightedKeys, ...]]:
        for scored in stream():
            yield (_weighed(float_keys(scored.score), scored.weight),)

    (search,) = run_searches(scores, [RankSearch.start(ranks, 32)])
    low, high, *beyond = key_floats(search.found).tolist()
    if not dropped:
        return Cut(low, high)
    (score,) = beyond
    if score > high:
        return Cut(low, high, score)

    def tied_keys() -> Iterator[tuple[Keys | WeightedKeys, ...]]:
        for scored in stream():
            tied = scored.take(scored.score == np.float32(score))
            yield (_weighed(tie_order(tied.sample_id, seed), tied.weight),)

    # The residual of the rank among equal scores says how many of them remain.
    (tie,) = run_searches(tied_keys, [RankSearch.start(search.residuals[2:], 64, exact=False)])
    return Cut(low, high, score, int(tie.found[0]) + int(tie.residuals[0] > 0))
