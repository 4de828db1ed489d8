"""Coverage of a score's range: hard prune, strata of equal width, and a draw that reaches all of them.

Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023, on any score; DEALRec's
selection is this on influence and effort. Streams over the shards in five passes with `minmax`, seven with `robust`,
eight with `rank`, and up to four more when equal scores straddle the hard-prune cut. Held between passes: tables of
counts, and the coreset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows, StratifiedDraw
from scoring.ids import draw_order
from scoring.selectors.base import (
    Reference,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    share_of,
    survey,
)
from scoring.selectors.combined import Cut, Scored, Scorer, find_cut
from scoring.strata import Strata, stratum_budgets
from scoring.weighted import weighted_keys

SQUEEZED_SHARE = 0.9  # when a tenth of the strata, or a single one, hold more of the samples, the report warns
_SQUEEZE_REMEDY = {
    "minmax": ": outliers stretch the scale; normalise: robust or rank bounds them",
    "robust": ": the scores are concentrated; normalise: rank spreads them",
    "rank": "",
}


@dataclass(frozen=True)
class CoverageSelector:
    """Covers the range of one score, or of influence + λ · effort; exact at any scale and under any partition.

    Attributes
    ----------
    scores : the scores that are normalised and added; effort is weighed by λ where influence is there too.
    one_scale : the score has a scale of its own, so that another normalisation is no remedy for a squeezed one.
    """

    scores: tuple[str, ...]
    features: tuple[str, ...] = ()
    sees_validation: bool = False
    one_scale: bool = False

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Raises TooFewSamplesError."""
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        weights = score_weights(self.scores, params)
        scorer = Scorer.fit(shards, counts, params.normalise, weights)
        cut = find_cut(shards, scorer, params.seed, counts.weight, share_of(params.hard_prune, counts.weight))
        strata = Strata(cut.low, cut.high, params.strata)
        sizes = np.zeros(strata.number, dtype=np.int64)
        for shard in shards():
            sizes += strata.counts(cut.remaining(scorer(shard), params.seed).score)
        even = params.sampling == "strata"
        draw = StratifiedDraw(stratum_budgets(sizes if even else sizes.sum(keepdims=True), asked))
        for shard in shards():
            left = cut.remaining(scorer(shard), params.seed)
            draw.offer(_even_rows(left, strata, params) if even else _proportional_rows(left, cut, params))
        chosen = draw.result()
        chosen = replace(chosen, stratum=strata.index(chosen.score))
        report = {
            "method": params.method,
            "seed": params.seed,
            "size": params.size,
            **({"lambda": params.lambda_} if len(self.scores) > 1 else {}),
            "sampling": params.sampling,
            **({} if even else {"sharpness": params.sharpness}),
            "normalise": {
                "method": params.normalise,
                **{name: {"low": counts.low[name], "high": counts.high[name]} for name in self.scores},
            },
            **counts.facts(),
            "hard_prune": {
                "share": params.hard_prune,
                "dropped": counts.usable - int(sizes.sum()),
                "cut_off": cut.score if np.isfinite(cut.score) else None,
            },
            "budget": asked,
            "chosen": len(chosen),
            "strata": _strata_facts(strata, sizes, np.bincount(chosen.stratum, minlength=strata.number)),
            "warnings": _warnings(
                params, asked, sizes, cut, "" if self.one_scale else _SQUEEZE_REMEDY[params.normalise]
            ),
        }
        return Selection.of(chosen, report)


def score_weights(scores: tuple[str, ...], params: SelectionParams) -> Mapping[str, float]:
    """The weight of each score in the sum: λ for effort beside influence, else 1."""
    return {name: params.lambda_ if name == "effort" and len(scores) > 1 else 1.0 for name in scores}


def _even_rows(left: Scored, strata: Strata, params: SelectionParams) -> Rows:
    """Within a stratum every sample of the log has the same chance, so a candidate has that of all it stands for."""
    if left.weight is None:
        key = draw_order(left.sample_id, params.seed)
    else:
        key = weighted_keys(left.sample_id, left.weight.astype(np.float64), params.seed)
    return Rows(key, strata.index(left.score), left.sample_id, left.influence, left.effort, left.score)


def _proportional_rows(left: Scored, cut: Cut, params: SelectionParams) -> Rows:
    """One stratum; the chance of a sample grows from 0 at the lowest score, and with what it stands for."""
    weight = np.ones(len(left.score)) if left.weight is None else left.weight.astype(np.float64)
    if cut.high > cut.low:
        weight *= ((left.score.astype(np.float64) - cut.low) / (cut.high - cut.low)) ** params.sharpness
    key = weighted_keys(left.sample_id, weight, params.seed)
    whole = np.zeros(len(key), dtype=np.int32)
    return Rows(key, whole, left.sample_id, left.influence, left.effort, left.score)


def _strata_facts(strata: Strata, sizes: npt.NDArray[np.int64], picks: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
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


def _warnings(
    params: SelectionParams, asked: int, sizes: npt.NDArray[np.int64], cut: Cut, squeeze_remedy: str
) -> list[str]:
    warnings = []
    left = int(sizes.sum())
    if asked > left:
        warnings.append(f"{asked:,} samples were asked for; all {left:,} left after pruning are taken")
    fullest = np.argsort(-sizes, kind="stable")
    share = np.cumsum(sizes[fullest]) / left
    few = int(np.searchsorted(share, SQUEEZED_SHARE, side="right")) + 1
    if cut.high <= cut.low:
        if left > 1:
            warnings.append("all remaining scores are equal: the selection is a plain random draw")
    elif params.strata > 1 and few <= max(1, params.strata // 10):
        where = f"stratum {fullest[0]} of {params.strata}" if few == 1 else f"{few} of {params.strata} strata"
        squeezed = f"{share[few - 1]:.1%} of the remaining samples fall into {where}"
        warnings.append(squeezed + squeeze_remedy)
    return warnings
