"""Coverage of a score's range: hard prune, strata of equal width, and a draw that reaches all of them.

Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023, on any score; DEALRec's
selection is this on influence and effort. Streams over the shards in five passes with `minmax`, seven with `robust`,
eight with `rank`, and up to four more when equal scores straddle the hard-prune cut. Held between passes: tables of
counts, and the coreset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows, StratifiedDraw
from scoring.ids import draw_order
from scoring.selectors.base import LogView, Scores, ScoreShard, Selector
from scoring.selectors.combined import Cut, Scored, Scorer, find_cut
from scoring.selectors.coreset_size import share_of
from scoring.selectors.selector_settings import CoverageSettings, SelectorSettings, StrataSettings
from scoring.strata import Strata, stratum_budgets
from scoring.weighted import weighted_keys

SQUEEZED_SHARE = 0.9  # when a tenth of the strata, or a single one, hold more of the samples, the report warns
_SQUEEZE_REMEDY = {
    "minmax": ": outliers stretch the scale; normalise: robust or rank bounds them",
    "robust": ": the scores are concentrated; normalise: rank spreads them",
    "rank": "",
}


class CoverageSelector(Selector):
    """Covers the range of a score, or of a sum of several; exact at any scale and under any partition.

    Attributes
    ----------
    one_scale : the score has a scale of its own, so that another normalisation is no remedy for a squeezed one.
    """

    one_scale: ClassVar[bool] = False
    Settings: ClassVar[type[SelectorSettings]] = CoverageSettings
    settings: StrataSettings

    def rule(self) -> CoverageSettings:
        """Return how the range is pruned, covered and drawn from."""
        assert isinstance(self.settings, CoverageSettings)
        return self.settings

    def weights(self, scores: tuple[str, ...]) -> Mapping[str, float]:
        """Return the weight of each score in the sum."""
        return dict.fromkeys(scores, 1.0)

    def fit(self, log: LogView) -> None:
        """Find the normalisation, the cut, and how many samples each stratum holds."""
        rule = self.rule()
        self._scorer = Scorer.fit(log.shards, log.counts, rule.normalise, self.weights(log.scores))
        weight = log.counts.weight
        self._cut = find_cut(lambda: self._scored(log), log.seed, weight, share_of(rule.hard_prune, weight))
        self._strata = Strata(self._cut.low, self._cut.high, rule.strata)
        self._sizes = np.zeros(rule.strata, dtype=np.int64)
        for left in self._left(log):
            self._sizes += self._strata.counts(left.score)

    def rank(self, shard: ScoreShard) -> Scores:
        return self._scorer(shard)

    def drawn(self, log: LogView) -> Rows:
        """Draw from each stratum, or in proportion to the score."""
        rule = self.rule()
        even = rule.sampling == "strata"
        draw = StratifiedDraw(stratum_budgets(self._sizes if even else self._sizes.sum(keepdims=True), log.asked))
        for left in self._left(log):
            if even:
                draw.offer(_even_rows(left, self._strata, log.seed))
            else:
                draw.offer(_proportional_rows(left, self._cut, rule.sharpness, log.seed))
        chosen = draw.result()
        return replace(chosen, stratum=self._strata.index(chosen.score))

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        rule, cut = self.rule(), self._cut.score
        return {
            "sampling": rule.sampling,
            **({"sharpness": rule.sharpness} if rule.sampling == "proportional" else {}),
            "normalise": {"method": rule.normalise, **log.counts.ranges()},
            "hard_prune": {
                "share": rule.hard_prune,
                "dropped": log.counts.usable - int(self._sizes.sum()),
                "cut_off": cut if np.isfinite(cut) else None,
            },
            "strata": _strata_facts(self._strata, self._sizes, np.bincount(chosen.stratum, minlength=rule.strata)),
        }

    def warnings(self, log: LogView, chosen: Rows) -> list[str]:
        remedy = "" if self.one_scale else _SQUEEZE_REMEDY[self.rule().normalise]
        return _warnings(self._strata, log.asked, self._sizes, remedy)

    def _scored(self, log: LogView) -> Iterator[Scored]:
        for shard in log.usable():
            score = self.ranked(shard).astype(np.float32)
            yield Scored(shard.sample_id, shard.influence, shard.effort, score, shard.weight)

    def _left(self, log: LogView) -> Iterator[Scored]:
        """Yield what the cut leaves, one shard at a time."""
        return (self._cut.remaining(scored, log.seed) for scored in self._scored(log))


def _even_rows(left: Scored, strata: Strata, seed: int) -> Rows:
    """Key a draw in which every sample of a stratum has the same chance, and a candidate that of all it stands for."""
    if left.weight is None:
        key = draw_order(left.sample_id, seed)
    else:
        key = weighted_keys(left.sample_id, left.weight.astype(np.float64), seed)
    return Rows(key, strata.index(left.score), left.sample_id, left.influence, left.effort, left.score)


def _proportional_rows(left: Scored, cut: Cut, sharpness: float, seed: int) -> Rows:
    """Key a draw from one stratum: the chance grows from 0 at the lowest score, and with what a sample stands for."""
    weight = np.ones(len(left.score)) if left.weight is None else left.weight.astype(np.float64)
    if cut.high > cut.low:
        weight *= ((left.score.astype(np.float64) - cut.low) / (cut.high - cut.low)) ** sharpness
    key = weighted_keys(left.sample_id, weight, seed)
    whole = np.zeros(len(key), dtype=np.int32)
    return Rows(key, whole, left.sample_id, left.influence, left.effort, left.score)


def _strata_facts(
    strata: Strata, sizes: npt.NDArray[np.int64], picks: npt.NDArray[np.int64]
) -> list[dict[str, object]]:
    edges = strata.edges.tolist()
    return [
        {
            "index": index,
            "low": edges[index],
            "high": edges[index + 1],
            "samples": int(size),
            "picks": int(picked),
        }
        for index, (size, picked) in enumerate(zip(sizes, picks, strict=True))
    ]


def _warnings(strata: Strata, asked: int, sizes: npt.NDArray[np.int64], squeeze_remedy: str) -> list[str]:
    warnings = []
    left = int(sizes.sum())
    if asked > left:
        warnings.append(f"{asked:,} samples were asked for; all {left:,} left after pruning are taken")
    fullest = np.argsort(-sizes, kind="stable")
    share = np.cumsum(sizes[fullest]) / left
    few = int(np.searchsorted(share, SQUEEZED_SHARE, side="right")) + 1
    if strata.high <= strata.low:
        if left > 1:
            warnings.append("all remaining scores are equal: the selection is a plain random draw")
    elif strata.number > 1 and few <= max(1, strata.number // 10):
        where = f"stratum {fullest[0]} of {strata.number}" if few == 1 else f"{few} of {strata.number} strata"
        squeezed = f"{share[few - 1]:.1%} of the remaining samples fall into {where}"
        warnings.append(squeezed + squeeze_remedy)
    return warnings
