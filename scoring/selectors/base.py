"""What every selector is: a rank for each sample. Survey, size, draw and report are the base's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scoring.draw import Rows, StratifiedDraw
from scoring.exceptions import SelectorError
from scoring.reference import Reference, required_reference
from scoring.selectors.coreset_size import asked_size, checked_size
from scoring.selectors.draw_keys import Draw, Scores, keyed_rows
from scoring.selectors.score_shard import ScoreShard, Shards
from scoring.selectors.score_survey import ScoreSurvey, survey, usable_rows
from scoring.selectors.selector_settings import SelectorSettings, read_settings

__all__ = [
    "Draw",
    "LogView",
    "Rows",
    "ScoreShard",
    "ScoreSurvey",
    "Scores",
    "Selection",
    "SelectionParams",
    "Selector",
    "SelectorSettings",
    "asked_size",
    "no_score",
]


@dataclass(frozen=True)
class SelectionParams:
    """How to choose.

    Attributes
    ----------
    method : a key of `scoring.selection.METHODS`, or `module:Class` of your own.
    size : below 1, a share of all samples (rounded down, at least one sample); from 1, a count.
    seed : of the draw.
    settings : of the method, by the keys of its `Settings`; defaults for those left out.

    Raises
    ------
    SettingError : the size is neither a share nor a whole count.
    """

    method: str = "dealrec"
    size: float = 0.02
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_size(self.size)


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
        """Build the selection of drawn rows, whatever their order."""
        rows = rows.take(np.argsort(rows.sample_id, kind="stable"))
        return cls(rows.sample_id, rows.influence, rows.effort, rows.score, rows.stratum, report)


@dataclass(frozen=True)
class LogView:
    """What a selector may look at before it ranks.

    Attributes
    ----------
    shards : begins a pass over all rows, those that may not be chosen included.
    counts : how many samples there are and may be chosen, and the ranges of their scores.
    asked : samples wanted in the coreset, which may be more than there are.
    seed : of the draw.
    scores : the columns that must be finite.
    aim : the reference period, for a selector that sees it.
    """

    shards: Shards
    counts: ScoreSurvey
    asked: int
    seed: int
    scores: tuple[str, ...] = ()
    aim: Reference | None = None

    @property
    def reference(self) -> Reference:
        """The samples that the selector is aimed at. Raises SelectorError where `sees_validation` is False."""
        if self.aim is None:
            raise SelectorError("it asks for the reference period, but has sees_validation = False")
        return self.aim

    def usable(self) -> Iterator[ScoreShard]:
        """Yield the samples that may be chosen, in one pass."""
        for shard in self.shards():
            yield shard.take(np.flatnonzero(usable_rows(shard, self.scores)))


class Selector(ABC):
    """A way to choose. A subclass writes `rank`, and `fit` where it must look at the log first.

    A selector is made for one selection, so `fit` may keep what it finds on `self`. `docs/EXTENDING.md` has an example.

    Attributes
    ----------
    scores : scores that it needs, out of "influence", "effort", "el2n" and "grand"; samples without them are left out.
    features : features of `ScoreShard` that it needs: "target", "history", "user", "timestamp", "embedding".
    may_lack : those of its features that it can do without, where the log has none.
    sees_validation : whether it looks at the validation period beyond what the scores hold: `fit` finds a `reference`.
    draw : what the ranks mean. "highest" takes the highest, equal ones by chance; "proportional" draws in proportion to
        them, "log_proportional" to their exponentials, "uniform" by chance alone.
    Settings : the class of its settings.
    settings : those of this selection.
    """

    scores: ClassVar[tuple[str, ...]] = ()
    features: ClassVar[tuple[str, ...]] = ()
    may_lack: ClassVar[tuple[str, ...]] = ()
    sees_validation: ClassVar[bool] = False
    draw: ClassVar[Draw] = "highest"
    Settings: ClassVar[type[SelectorSettings]] = SelectorSettings
    settings: SelectorSettings

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        """Check the settings. Raises SettingError for a setting that does not exist, and for a value out of range."""
        self.settings = read_settings(self.Settings, settings or {})

    def fit(self, log: LogView) -> None:
        """Look at the log, in as many passes as it takes, with a shard in memory at a time."""
        return

    @abstractmethod
    def rank(self, shard: ScoreShard) -> Scores:
        """Return a number for each sample of a shard, [N]; the shard holds only samples that may be chosen.

        A sample's number is to depend on that sample and on what `fit` found, so that partitions leave no trace.
        float32 is kept; other numbers are taken as float64.
        """

    def facts(self, log: LogView, chosen: Rows) -> Mapping[str, object]:
        """Return what the report says beside the counts, JSON-ready."""
        settings = self.settings.values()
        return {"settings": settings} if settings else {}

    def warnings(self, log: LogView, chosen: Rows) -> list[str]:
        """Return what the user should know about this selection."""
        if log.asked > log.counts.usable:
            return [f"{log.asked:,} samples were asked for; all {log.counts.usable:,} usable ones are taken"]
        return []

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """Choose: one pass for the survey, those of `fit`, and one for the draw.

        Raises
        ------
        TooFewSamplesError : more samples are asked for than there are, or none is usable.
        SettingError : no reference where the selector needs one.
        SelectorError : the ranks are not one finite number per sample, or the log lacks a needed feature.
        """
        aim = required_reference(reference, params.method) if self.sees_validation else None
        shards, scores = self.derived(partial(self._complete, shards))
        counts = survey(shards, scores)
        log = LogView(shards, counts, self.asked(params.size, counts), params.seed, scores, aim)
        self.fit(log)
        chosen = self.drawn(log)
        facts, warnings = self.facts(log, chosen), self.warnings(log, chosen)
        if not isinstance(facts, Mapping):
            raise SelectorError(f"facts gave a {type(facts).__name__}, not names with values")
        if not (isinstance(warnings, list) and all(isinstance(warning, str) for warning in warnings)):
            raise SelectorError("warnings gave something else than a list of sentences")
        report = {
            **facts,
            "method": params.method,
            "seed": params.seed,
            "size": params.size,
            **counts.facts(),
            "budget": log.asked,
            "chosen": len(chosen),
            "warnings": warnings,
        }
        return Selection.of(chosen, report)

    def _complete(self, shards: Shards) -> Iterator[ScoreShard]:
        for shard in shards():
            for name in self.features:
                if name not in self.may_lack and getattr(shard, name) is None:
                    raise SelectorError(f"it needs the feature {name}, which this log does not have")
            yield shard

    def derived(self, shards: Shards) -> tuple[Shards, tuple[str, ...]]:
        """Return the shards, with the selector's own columns if it adds any, and the columns that must be finite."""
        return shards, self.scores

    def asked(self, size: float, counts: ScoreSurvey) -> int:
        """Return the number of samples wanted. Raises TooFewSamplesError if there are fewer in all."""
        return asked_size(size, counts.samples)

    def samples(self, log: LogView) -> Iterator[ScoreShard]:
        """Return the samples to draw from."""
        return log.usable()

    def drawn(self, log: LogView) -> Rows:
        """Return the samples with the lowest keys, in one pass that holds twice the budget and a shard."""
        draw = StratifiedDraw(np.array([log.asked]))
        kinds: set[np.dtype[Any]] = set()
        for shard in self.samples(log):
            if not len(shard.sample_id):
                continue
            score = self.ranked(shard)
            kinds.add(score.dtype)
            if len(kinds) > 1:
                raise SelectorError("rank gave float32 for some shards and other numbers for others")
            draw.offer(keyed_rows(shard, score, self.draw, log.seed))
        return draw.result()

    def ranked(self, shard: ScoreShard) -> Scores:
        """Check the ranks of a shard, and return them as float32, or as float64 if they are of another type."""
        given = np.asarray(self.rank(shard))
        if given.dtype.kind not in "fiub":
            raise SelectorError(f"rank gave values of type {given.dtype}, not numbers")
        if given.shape != shard.sample_id.shape:
            wanted = f"({len(shard.sample_id)},), a number for each sample of the shard"
            raise SelectorError(f"rank gave an array of shape {given.shape}, not {wanted}")
        score: Scores = given.astype(np.float64)
        if given.dtype == np.float32:
            score = given.astype(np.float32)
        if self.draw == "uniform":
            return score
        refused = int(np.count_nonzero(np.isnan(score)))
        if refused:
            raise SelectorError(f"rank gave NaN for {refused:,} of the {len(score):,} samples of a shard")
        if self.draw == "proportional" and not (np.isfinite(score) & (score >= 0)).all():
            raise SelectorError("rank gave a negative or infinite number, and the draw is in proportion to it")
        return score


def no_score(shard: ScoreShard) -> npt.NDArray[np.float32]:
    """Return NaN for each sample [N]: the selector has no score, and draws uniformly."""
    return np.full(len(shard.sample_id), np.nan, dtype=np.float32)
