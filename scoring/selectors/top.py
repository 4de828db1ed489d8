"""The highest scores and nothing else: what coverage is an answer to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.selectors.base import (
    Reference,
    ScoreShard,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    survey,
)
from scoring.selectors.combined import Scorer
from scoring.selectors.coverage import score_weights
from scoring.selectors.plain import draw_lowest, plain_report
from scoring.weighted import highest_keys


@dataclass(frozen=True)
class TopSelector:
    """Takes the samples with the highest score, equal ones by the draw.

    Attributes
    ----------
    scores : one score as it is, or influence and effort, normalised and added as in DEALRec.
    """

    scores: tuple[str, ...]
    features: tuple[str, ...] = ()
    sees_validation: bool = False

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Two passes over the shards, and those of the normalisation. Raises TooFewSamplesError."""
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        scorer = None
        if len(self.scores) > 1:
            scorer = Scorer.fit(shards, counts, params.normalise, score_weights(self.scores, params))

        def ranking(shard: ScoreShard) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
            score = shard.score(self.scores[0]) if scorer is None else scorer(shard).score
            return highest_keys(shard.sample_id, score, params.seed), score

        rows = draw_lowest(shards, self.scores, min(asked, counts.usable), ranking)
        ranges = {name: {"low": counts.low[name], "high": counts.high[name]} for name in self.scores}
        facts = {} if scorer is None else {"lambda": params.lambda_}
        method = "none" if scorer is None else params.normalise
        report = plain_report(params, counts, asked, len(rows), **facts, normalise={"method": method, **ranges})
        return Selection.of(rows, report)


TOP = TopSelector(("influence", "effort"))
