"""Which samples get an effort score when the LLM is too dear for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import UserError
from cluster.shards import shard_name
from cluster.storage import Storage
from scoring.ids import draw_order
from scoring.strata import Strata, stratum_budgets

#: The draw is independent of the coreset's and the curvature's.
_SEED = 0x4546464F
_STRATA = 50
_THOUSANDTHS = 1000
#: Of strata from which nothing is drawn; no candidate has it.
_LOWEST_RATE = 1e-6

Scores = Callable[[], Iterator[npt.NDArray[np.float32]]]


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

    def facts(self) -> dict[str, Any]:
        """For the stage's manifest; `of` is its inverse."""
        return {"low": self.strata.low, "high": self.strata.high, "rates": list(self.rates)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> CandidateRule:
        return cls(Strata(facts["low"], facts["high"], len(facts["rates"])), tuple(facts["rates"]))

    def weights(self, influence: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """How many samples of the log each candidate stands for, int64 [N] in thousandths: 1 over its chance.

        So that a selection sees what is common in the log as common though the draw has levelled it (Horvitz and
        Thompson, 1952).
        """
        finite = np.isfinite(influence)
        rate = np.array(self.rates)[self.strata.index(np.where(finite, influence, np.float32(self.strata.low)))]
        return np.rint(_THOUSANDTHS / np.maximum(rate, _LOWEST_RATE)).astype(np.int64)

    @classmethod
    def over(cls, scores: Scores, share: float) -> CandidateRule:
        """The rule that draws `share` of all samples in expectation, from two passes over the influence scores."""
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
        """bool [N]; samples without a finite influence are never candidates."""
        finite = np.isfinite(influence)
        rates = np.array(self.rates)[self.strata.index(np.where(finite, influence, np.float32(self.strata.low)))]
        keys = draw_order(sample_id, _SEED).astype(np.float64) / 2.0**64
        return finite & (keys < rates)


@dataclass(frozen=True)
class Candidates:
    """A rule, and the folder of the influence scores that it goes by."""

    rule: CandidateRule
    influence: Storage

    @classmethod
    def over(cls, influence: Storage, shards: int, share: float) -> Candidates:
        """`share` of all samples in expectation, by the scores of that many shards."""
        return cls(CandidateRule.over(lambda: (_scores(influence, index) for index in range(shards)), share), influence)

    def chosen(self, index: int, sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """bool [N], which samples of a shard are candidates."""
        return self.rule.chosen(sample_id, _scores(self.influence, index))

    def weights(self, index: int) -> npt.NDArray[np.int64]:
        """int64 [N], what each sample of a shard would stand for, as `CandidateRule.weights`."""
        return self.rule.weights(_scores(self.influence, index))


def asked_candidates(share: float, samples: int) -> int:
    """How many candidates a share of so many samples is."""
    return round(share * samples)


def require_candidates(share: float, drawn: bool) -> None:
    """Raise `UserError` where a share of the samples is none of them."""
    if not drawn:
        raise UserError(f"effort.candidates: {share:g} of the samples is none.", "Raise it.")


def _scores(folder: Storage, index: int) -> npt.NDArray[np.float32]:
    table = folder.read_table(f"{shard_name(index)}.parquet", ["influence"])
    scores: npt.NDArray[np.float32] = table.column("influence").to_numpy()
    return scores
