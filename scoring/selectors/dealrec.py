"""DEALRec's selection: normalised influence plus λ times effort, hard prune, coverage over score strata.

Lin et al., "Data-efficient Fine-tuning for LLM-based Recommendation", SIGIR 2024, §3.3. Streams over the
shards in five passes with `minmax`, seven with `robust`, eight with `rank`, and one more (of very many, up to
four) when equal scores straddle the hard-prune cut. Held between passes: tables of counts, and the coreset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows, StratifiedDraw
from scoring.ids import draw_order
from scoring.normalise import NORMALISATIONS, Anchors, ScoreMap
from scoring.order_statistics import RankSearch, float_keys, key_floats, run_searches
from scoring.selectors.base import (
    ScoreShard,
    Selection,
    SelectionParams,
    Shards,
    Survey,
    asked_size,
    share_of,
    survey,
    usable_rows,
)
from scoring.strata import Strata, stratum_budgets

SQUEEZED_SHARE = 0.9  # above this share of the samples in one stratum, the report warns
_SQUEEZE_REMEDY = {
    "minmax": ": outliers stretch the scale; normalise: robust or rank bounds them",
    "robust": ": the scores are concentrated; normalise: rank spreads them",
    "rank": "",
}


@dataclass(frozen=True)
class Scored:
    """The usable samples of a shard: four columns of one length."""

    sample_id: npt.NDArray[np.int64]
    influence: npt.NDArray[np.float32]
    effort: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """The combined score of samples, float32: ties are real ties, and it sorts by its 32 bits."""

    influence: ScoreMap
    effort: ScoreMap
    lambda_: float

    def __call__(self, shard: ScoreShard) -> Scored:
        usable = usable_rows(shard, DealrecSelector.scores)
        influence, effort = shard.influence[usable], shard.effort[usable]
        score = self.influence(influence) + self.lambda_ * self.effort(effort)
        return Scored(shard.sample_id[usable], influence, effort, score.astype(np.float32))


@dataclass(frozen=True)
class Cut:
    """What the hard prune leaves: the samples that come before the cut in the order of (score, key).

    Attributes
    ----------
    dropped : how many are at or after the cut.
    low, high : smallest and largest score that remain.
    score : the first dropped score; infinite if none is dropped.
    key : of the samples with exactly that score, those with a lower key of the draw remain.
    """

    dropped: int
    low: float
    high: float
    score: float = np.inf
    key: int = 0

    def remaining(self, scored: Scored, seed: int) -> Scored:
        """The samples that remain."""
        keep = scored.score < np.float32(self.score)
        if self.key:
            tied = np.flatnonzero(scored.score == np.float32(self.score))
            keep[tied] = draw_order(scored.sample_id[tied], seed) < np.uint64(self.key)
        return Scored(scored.sample_id[keep], scored.influence[keep], scored.effort[keep], scored.score[keep])


class DealrecSelector:
    """The selector of the paper, exact at any scale and under any partition."""

    scores: tuple[str, ...] = ("influence", "effort")
    sees_validation = False

    def select(self, shards: Shards, params: SelectionParams) -> Selection:
        """Raises TooFewSamplesError."""
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        maps = fit_maps(shards, counts, params.normalise)
        scorer = Scorer(maps["influence"], maps["effort"], params.lambda_)
        dropped = share_of(params.hard_prune, counts.usable)
        cut = find_cut(shards, scorer, params.seed, counts.usable, dropped)
        strata = Strata(cut.low, cut.high, params.strata)

        sizes = np.zeros(strata.number, dtype=np.int64)
        for shard in shards():
            sizes += strata.counts(cut.remaining(scorer(shard), params.seed).score)
        budgets = stratum_budgets(sizes, asked)
        draw = StratifiedDraw(budgets)
        for shard in shards():
            left = cut.remaining(scorer(shard), params.seed)
            key, stratum = draw_order(left.sample_id, params.seed), strata.index(left.score)
            draw.offer(Rows(key, stratum, left.sample_id, left.influence, left.effort, left.score))
        chosen = draw.result()

        report = {
            "method": params.method,
            "seed": params.seed,
            "size": params.size,
            "lambda": params.lambda_,
            "normalise": {
                "method": params.normalise,
                **{name: {"low": counts.low[name], "high": counts.high[name]} for name in self.scores},
            },
            **counts.facts(),
            "hard_prune": {
                "share": params.hard_prune,
                "dropped": cut.dropped,
                "cut_off": cut.score if cut.dropped else None,
            },
            "budget": asked,
            "chosen": len(chosen),
            "strata": _strata_facts(strata, sizes, budgets),
            "warnings": _warnings(params, asked, sizes, cut),
        }
        return Selection.of(chosen, report)


def fit_maps(shards: Shards, counts: Survey, normalise: str) -> dict[str, ScoreMap]:
    """The normalisation of each column over the usable rows; no pass when the ranges suffice."""
    anchors: Anchors = NORMALISATIONS[normalise](counts.usable)
    inner = (anchors.ranks > 0) & (anchors.ranks < counts.usable - 1)

    def stream() -> Iterator[tuple[npt.NDArray[np.uint32], ...]]:
        for shard in shards():
            usable = usable_rows(shard, DealrecSelector.scores)
            yield float_keys(shard.influence[usable]), float_keys(shard.effort[usable])

    searches = run_searches(stream, [RankSearch.start(anchors.ranks[inner], 32)] * 2)
    maps = {}
    for name, search in zip(DealrecSelector.scores, searches, strict=True):
        values = np.where(anchors.ranks == 0, counts.low[name], counts.high[name]).astype(np.float32)
        values[inner] = key_floats(search.found)
        maps[name] = ScoreMap.fit(anchors, values)
    return maps


def find_cut(shards: Shards, scorer: Scorer, seed: int, usable: int, dropped: int) -> Cut:
    """Where exactly `dropped` of the `usable` samples, the last in the order of (score, key), are cut off."""
    first = usable - dropped
    ranks = [0, first - 1] + ([first] if dropped else [])

    def scores() -> Iterator[tuple[npt.NDArray[np.uint32], ...]]:
        for shard in shards():
            yield (float_keys(scorer(shard).score),)

    (search,) = run_searches(scores, [RankSearch.start(ranks, 32)])
    low, high, *beyond = key_floats(search.found).tolist()
    if not dropped:
        return Cut(0, low, high)
    (score,) = beyond
    if score > high:
        return Cut(dropped, low, high, score)

    def tied_keys() -> Iterator[tuple[npt.NDArray[np.uint64], ...]]:
        for shard in shards():
            scored = scorer(shard)
            yield (draw_order(scored.sample_id[scored.score == np.float32(score)], seed),)

    # The residual of the rank among equal scores says how many of them remain.
    (tie,) = run_searches(tied_keys, [RankSearch.start(search.residuals[2:], 64, exact=False)])
    return Cut(dropped, low, high, score, int(tie.found[0]))


def _strata_facts(strata: Strata, sizes: npt.NDArray[np.int64], budgets: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    edges = strata.edges.tolist()
    return [
        {
            "index": index,
            "low": edges[index],
            "high": edges[index + 1],
            "samples": int(size),
            "picks": int(picks),
        }
        for index, (size, picks) in enumerate(zip(sizes, budgets, strict=True))
    ]


def _warnings(params: SelectionParams, asked: int, sizes: npt.NDArray[np.int64], cut: Cut) -> list[str]:
    warnings = []
    left = int(sizes.sum())
    if asked > left:
        warnings.append(f"{asked:,} samples were asked for; all {left:,} left after pruning are taken")
    largest = int(sizes.argmax())
    share = sizes[largest] / left
    if cut.high <= cut.low:
        if left > 1:
            warnings.append("all remaining scores are equal: the selection is a plain random draw")
    elif params.strata > 1 and share > SQUEEZED_SHARE:
        squeezed = f"{share:.1%} of the remaining samples fall into stratum {largest} of {params.strata}"
        warnings.append(squeezed + _SQUEEZE_REMEDY[params.normalise])
    return warnings
