"""What a selector is given, what it gives back, and the counts that every one of them reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows
from scoring.exceptions import NoUsableSampleError, SettingError, TooFewSamplesError
from scoring.normalise import NORMALISATIONS
from scoring.ragged import Ragged
from scoring.reference import Reference

SAMPLINGS = ("strata", "proportional")


@dataclass(frozen=True)
class ScoreShard:
    """The scores of one shard, four columns of one length N, and what else the selector declares that it needs.

    Attributes
    ----------
    sample_id : int64, unique over all shards.
    influence, effort : float32.
    ok : bool, whether the sample may be chosen.
    columns : further scores by name, float32 [N] each ("el2n", "grand").
    target : int32 [N], the item index that follows the history.
    history : N rows of item indices, oldest first.
    user : int64 [N], the key of the user (`scoring.ids.user_keys`).
    timestamp : float64 [N], of the target; None also where the log has no times.
    embedding : float32 [N, d], the surrogate's view of history and target (`scoring.difficulty.pair_embeddings`).
    weight : int64 [N], 1 or more: how many samples of the log each stands for, in units of one thousandth, where the
        usable ones are an uneven draw from it; None where they are not.
    """

    sample_id: npt.NDArray[np.int64]
    influence: npt.NDArray[np.float32]
    effort: npt.NDArray[np.float32]
    ok: npt.NDArray[np.bool_]
    columns: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    target: npt.NDArray[np.int32] | None = None
    history: Ragged | None = None
    user: npt.NDArray[np.int64] | None = None
    timestamp: npt.NDArray[np.float64] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    weight: npt.NDArray[np.int64] | None = None

    def score(self, name: str) -> npt.NDArray[np.float32]:
        """The score of that name, float32 [N]."""
        if name == "influence":
            return self.influence
        return self.effort if name == "effort" else self.columns[name]

    def take(self, rows: npt.NDArray[np.int64]) -> ScoreShard:
        """The rows asked for, in the order asked."""
        return ScoreShard(
            self.sample_id[rows],
            self.influence[rows],
            self.effort[rows],
            self.ok[rows],
            {name: column[rows] for name, column in self.columns.items()},
            None if self.target is None else self.target[rows],
            None if self.history is None else self.history.take(rows),
            None if self.user is None else self.user[rows],
            None if self.timestamp is None else self.timestamp[rows],
            None if self.embedding is None else self.embedding[rows],
            None if self.weight is None else self.weight[rows],
        )


Shards = Callable[[], Iterator[ScoreShard]]
"""Begins a pass over all shards. Selectors make several, and hold one shard at a time."""


@dataclass(frozen=True)
class SelectionParams:
    """How to choose.

    Attributes
    ----------
    method : a key of `scoring.selection.METHODS`.
    size : below 1, a share of all samples (rounded down, at least one sample); from 1, a count.
    lambda_ : weight of the effort beside the influence; for goracs, of the gradient norm against the transport.
    strata : number of equal-width intervals of the score.
    hard_prune : share of the usable samples, those with the highest score, that is dropped first.
    normalise : a key of `scoring.normalise.NORMALISATIONS`.
    seed : of the draw.
    sampling : how the methods that cover the range of a score draw: `strata`, evenly over its strata, or
        `proportional`, with a chance in proportion to the score above the lowest, to the power `sharpness`.
    sharpness : of `proportional`; the higher, the nearer to taking the highest scores.
    transport_epsilon : entropy of the transport, in units of the mean cost (goracs).
    transport_points : train samples, and reference samples, that the transport is solved on, at most (goracs).

    Raises
    ------
    SettingError : a value is out of its range.
    """

    method: str = "dealrec"
    size: float = 0.02
    lambda_: float = 0.5
    strata: int = 50
    hard_prune: float = 0.1
    normalise: str = "minmax"
    seed: int = 0
    sampling: str = "strata"
    sharpness: float = 1.0
    transport_epsilon: float = 0.05
    transport_points: int = 2048

    def __post_init__(self) -> None:
        if not 0 < self.size < float("inf") or (self.size >= 1 and self.size != int(self.size)):
            raise SettingError(f"size must be a share below 1 or a whole number of samples, not {self.size}")
        if not 0 <= self.lambda_ < float("inf"):
            raise SettingError(f"lambda must be a finite number, 0 or more, not {self.lambda_}")
        if self.strata < 1:
            raise SettingError(f"strata must be at least 1, not {self.strata}")
        if not 0 <= self.hard_prune < 1:
            raise SettingError(f"hard_prune must be a share from 0 to below 1, not {self.hard_prune}")
        if self.normalise not in NORMALISATIONS:
            known = ", ".join(NORMALISATIONS)
            raise SettingError(f"normalise must be one of {known}, not {self.normalise!r}")
        if self.sampling not in SAMPLINGS:
            raise SettingError(f"sampling must be one of {', '.join(SAMPLINGS)}, not {self.sampling!r}")
        for name in ("sharpness", "transport_epsilon"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SettingError(f"{name} must be a finite number above 0, not {getattr(self, name)}")
        if self.transport_points < 1:
            raise SettingError(f"transport_points must be at least 1, not {self.transport_points}")


@dataclass(frozen=True)
class Selection:
    """The coreset: five columns of one length, ordered by sample id, and the report.

    Attributes
    ----------
    sample_id : int64.
    influence, effort : float32, as given.
    score : float32, the combined score; NaN where the method has none.
    stratum : int32; 0 where the method has none.
    report : JSON-ready facts: what was asked, the counts, strata, cut-offs and warnings.
    """

    sample_id: npt.NDArray[np.int64]
    influence: npt.NDArray[np.float32]
    effort: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    stratum: npt.NDArray[np.int32]
    report: dict[str, Any]

    @classmethod
    def of(cls, rows: Rows, report: dict[str, Any]) -> Selection:
        """The selection of drawn rows, whatever their order."""
        rows = rows.take(np.argsort(rows.sample_id, kind="stable"))
        return cls(rows.sample_id, rows.influence, rows.effort, rows.score, rows.stratum, report)


class Selector(Protocol):
    """A way to choose. A new one is a module with such a class and a line in `selection.METHODS`."""

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that it needs, out of "influence", "effort", "el2n" and "grand"."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """The features of `ScoreShard` that it needs: "target", "history", "user", "timestamp", "embedding"."""
        ...

    @property
    def sees_validation(self) -> bool:
        """Whether it looks at the validation period beyond what the scores hold: it is given a `Reference`."""
        ...

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection: ...


@dataclass(frozen=True)
class Survey:
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

    def __add__(self, other: Survey) -> Survey:
        return Survey(
            self.samples + other.samples,
            self.not_ok + other.not_ok,
            self.nonfinite + other.nonfinite,
            {name: min(self.low[name], other.low[name]) for name in self.low},
            {name: max(self.high[name], other.high[name]) for name in self.high},
            self.weight + other.weight,
        )

    def facts(self) -> dict[str, int]:
        """The counts, for the report."""
        return {
            "samples": self.samples,
            "usable": self.usable,
            "not_ok": self.not_ok,
            "nonfinite": self.nonfinite,
        }


def usable_rows(shard: ScoreShard, scores: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Which rows [N] of a shard may be chosen: ok, and finite in the needed columns."""
    usable = np.array(shard.ok, dtype=np.bool_)
    for name in scores:
        usable &= np.isfinite(shard.score(name))
    return usable


def survey(shards: Shards, scores: tuple[str, ...]) -> Survey:
    """One pass: count the rows and find the range of each needed column.

    Raises
    ------
    NoUsableSampleError : no row is usable.
    """
    total = Survey(0, 0, 0, dict.fromkeys(scores, np.inf), dict.fromkeys(scores, -np.inf))
    for shard in shards():
        usable = usable_rows(shard, scores)
        columns = {name: shard.score(name)[usable] for name in scores}
        ok = int(np.count_nonzero(shard.ok))
        total += Survey(
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


def share_of(share: float, count: int) -> int:
    """⌊share · count⌋ with the share as it was written: 0.29 of 100 is 29, not 28."""
    return int(Fraction(str(share)) * count)


def asked_size(size: float, samples: int) -> int:
    """The number of samples that `SelectionParams.size` asks of a log of `samples`.

    Raises
    ------
    TooFewSamplesError : more are asked for than there are.
    """
    if size < 1:
        return max(1, share_of(size, samples))
    if size > samples:
        raise TooFewSamplesError(f"{int(size):,} samples are asked for, but there are only {samples:,}")
    return int(size)
