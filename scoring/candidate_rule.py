"""The rule by which samples are drawn for an effort score when the LLM is too expensive for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from scoring.ids import draw_order
from scoring.strata import Strata, stratum_budgets

#: The draw is independent of the coreset's and the curvature's.
_SEED = 0x4546464F
_STRATA = 50
_THOUSANDTHS = 1000
#: Stands in for the rate of strata from which nothing is drawn; no candidate has it.
_LOWEST_RATE = 1e-6

Scores = Callable[[], Iterator[npt.NDArray[np.float32]]]


class RuleFacts(TypedDict):
    """A rule as JSON: the ends of the strata and the rate of each."""

    low: float
    high: float
    rates: Sequence[float]


@dataclass(frozen=True)
class CandidateRule:
    """A share of each stratum of influence, drawn by hash, so that a shard decides for itself.

    Attributes
    ----------
    strata : equal-width intervals of influence.
    rates : the share of each stratum that is drawn; sparse strata are taken whole.
    """

    strata: Strata
    rates: tuple[float, ...]

    def facts(self) -> RuleFacts:
        """Return the rule as JSON; `of` is the inverse."""
        return {"low": self.strata.low, "high": self.strata.high, "rates": list(self.rates)}

    @classmethod
    def of(cls, facts: RuleFacts) -> CandidateRule:
        """Build the rule that `facts` described."""
        return cls(Strata(facts["low"], facts["high"], len(facts["rates"])), tuple(facts["rates"]))

    def weights(self, influence: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Weigh each candidate by the samples of the log it stands for, int64 [N] in thousandths: 1 over its chance.

        So that a selection sees what is common in the log as common though the draw has levelled it (Horvitz and
        Thompson, 1952).
        """
        finite = np.isfinite(influence)
        rate = np.array(self.rates)[self.strata.index(np.where(finite, influence, np.float32(self.strata.low)))]
        return np.rint(_THOUSANDTHS / np.maximum(rate, _LOWEST_RATE)).astype(np.int64)

    @classmethod
    def over(cls, scores: Scores, share: float) -> CandidateRule:
        """Build the rule that draws `share` of all samples in expectation, in two passes over the influence scores."""
        low, high = np.inf, -np.inf
        for part in scores():
            finite = part[np.isfinite(part)]
            if len(finite):
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        strata = Strata(low, high, _STRATA) if low <= high else Strata(0.0, 0.0, _STRATA)
        counts = np.zeros(_STRATA, dtype=np.int64)
        for part in scores():
            counts += strata.counts(part[np.isfinite(part)])
        budgets = stratum_budgets(counts, asked_candidates(share, int(counts.sum())))
        return cls(strata, tuple(float(rate) for rate in budgets / np.maximum(counts, 1)))

    def chosen(self, sample_id: npt.NDArray[np.int64], influence: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return which samples are candidates, bool [N]; those without a finite influence never are."""
        finite = np.isfinite(influence)
        rates = np.array(self.rates)[self.strata.index(np.where(finite, influence, np.float32(self.strata.low)))]
        keys = draw_order(sample_id, _SEED).astype(np.float64) / 2.0**64
        return finite & (keys < rates)


def asked_candidates(share: float, samples: int) -> int:
    """Return how many of `samples` a share of them is."""
    return round(share * samples)
