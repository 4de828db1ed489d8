"""The hardest samples for the surrogate (Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021).

EL2N is the length of the error of the predicted probabilities, GraNd the length of the loss's gradient. The paper
averages over early checkpoints of several trainings; here it is the one trained surrogate, as the scores of
baselines are in DEALRec. See `scoring.difficulty`.
"""

from __future__ import annotations

from scoring.selectors.base import LogView, Rows, Scores, ScoreShard, Selector


class El2nSelector(Selector):
    """Takes the samples with the highest EL2N, equal ones by the draw."""

    scores = ("el2n",)

    def rank(self, shard: ScoreShard) -> Scores:
        return shard.score(self.scores[0])

    def facts(self, log: LogView, chosen: Rows) -> dict[str, object]:
        return {"normalise": {"method": "none", **log.counts.ranges()}}


class GrandSelector(El2nSelector):
    """The same by GraNd."""

    scores = ("grand",)
