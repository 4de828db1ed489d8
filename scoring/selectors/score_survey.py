"""Counts and ranges of the samples that a selector chooses from, found in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.exceptions import NoUsableSampleError
from scoring.selectors.score_shard import ScoreShard, Shards


@dataclass(frozen=True)
class ScoreSurvey:
    """Counts and ranges of all shards; those of shards add up.

    Attributes
    ----------
    samples : rows in all.
    not_ok : rows that the caller excluded.
    nonfinite : rows not excluded by the caller whose needed scores are infinite or not a number.
    low, high : the smallest and largest of each needed column over the usable rows.
    weight : of the usable rows together; their number where they have no weights.
    """

    samples: int
    not_ok: int
    nonfinite: int
    low: dict[str, float]
    high: dict[str, float]
    weight: int = 0

    @property
    def usable(self) -> int:
        return self.samples - self.not_ok - self.nonfinite

    def __add__(self, other: ScoreSurvey) -> ScoreSurvey:
        return ScoreSurvey(
            self.samples + other.samples,
            self.not_ok + other.not_ok,
            self.nonfinite + other.nonfinite,
            {name: min(self.low[name], other.low[name]) for name in self.low},
            {name: max(self.high[name], other.high[name]) for name in self.high},
            self.weight + other.weight,
        )

    def facts(self) -> dict[str, int]:
        """Return the counts, for the report."""
        return {
            "samples": self.samples,
            "usable": self.usable,
            "not_ok": self.not_ok,
            "nonfinite": self.nonfinite,
        }

    def ranges(self) -> dict[str, dict[str, float]]:
        """Return the range of each needed column, for the report."""
        return {name: {"low": self.low[name], "high": self.high[name]} for name in self.low}


def usable_rows(shard: ScoreShard, scores: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Mark the rows [N] of a shard that may be chosen: ok, and finite in the needed columns."""
    usable = np.array(shard.ok, dtype=np.bool_)
    for name in scores:
        usable &= np.isfinite(shard.score(name))
    return usable


def survey(shards: Shards, scores: tuple[str, ...]) -> ScoreSurvey:
    """Count the rows and find the range of each needed column, in one pass.

    Raises
    ------
    NoUsableSampleError : no row is usable.
    """
    total = ScoreSurvey(0, 0, 0, dict.fromkeys(scores, np.inf), dict.fromkeys(scores, -np.inf))
    for shard in shards():
        usable = usable_rows(shard, scores)
        columns = {name: shard.score(name)[usable] for name in scores}
        ok = int(np.count_nonzero(shard.ok))
        total += ScoreSurvey(
            len(usable),
            len(usable) - ok,
            ok - int(np.count_nonzero(usable)),
            # Adding 0 gives -0 and 0 one spelling, whichever came first.
            {name: float(column.min(initial=np.inf)) + 0.0 for name, column in columns.items()},
            {name: float(column.max(initial=-np.inf)) + 0.0 for name, column in columns.items()},
            int(np.count_nonzero(usable) if shard.weight is None else shard.weight[usable].sum()),
        )
    if not total.usable:
        raise NoUsableSampleError(f"none of the {total.samples:,} samples has a usable score, so none can be selected")
    return total
