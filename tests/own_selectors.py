"""Selectors of a user's own: a good one with a setting, and one for each way of going wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from scoring.selectors.base import LogView, Rows, ScoreShard, Selector, SelectorSettings
from scoring.selectors.dealrec_selector import DealrecSelector
from scoring.selectors.reference_draw import ReferenceSelector


class NewestSettings(SelectorSettings):
    skip: float = Field(0.0, ge=0, lt=1)
    strata: int = 10


class SwitchedSettings(SelectorSettings):
    number: int = 1
    plain: bool = False
    perhaps: bool | None = None
    whatever: Any = None


class Newest(Selector):
    """The newest samples, but for a share of the range of times at its end."""

    features = ("timestamp",)
    Settings = NewestSettings
    settings: NewestSettings

    def fit(self, log: LogView) -> None:
        times = [shard.timestamp for shard in log.usable() if shard.timestamp is not None and len(shard.timestamp)]
        low, high = min(map(np.min, times)), max(map(np.max, times))
        self.end = high - self.settings.skip * (high - low)

    def rank(self, shard: ScoreShard) -> Any:
        assert shard.timestamp is not None
        return np.where(shard.timestamp <= self.end, shard.timestamp, -shard.timestamp)


class FewSettings(NewestSettings):
    strata: int = Field(3, le=100)


class Few(Newest):
    Settings = FewSettings


class ByTarget(Selector):
    """In proportion to the index of the target, as a list of whole numbers."""

    features = ("target",)
    draw = "proportional"

    def rank(self, shard: ScoreShard) -> Any:
        assert shard.target is not None
        return shard.target.tolist()


class FailsByTarget(ByTarget):
    def rank(self, shard: ScoreShard) -> Any:
        return 1 // 0


class Switched(ByTarget):
    Settings = SwitchedSettings


class LateReference(ReferenceSelector):
    """The control, under another name."""


class Narrow(DealrecSelector):
    """DEALRec with its settings, under another name."""


class Aimed(Selector):
    """Distance to the mean target of the reference."""

    features = ("target",)
    sees_validation = True

    def fit(self, log: LogView) -> None:
        self.mean = np.mean(np.concatenate([part.target for part in log.reference.shards()]))

    def rank(self, shard: ScoreShard) -> Any:
        assert shard.target is not None
        return -np.abs(shard.target - self.mean)


class Broken(Newest):
    given: Any = None

    def fit(self, log: LogView) -> None:
        pass

    def rank(self, shard: ScoreShard) -> Any:
        count = len(shard.sample_id)
        return self.made(count)

    def made(self, count: int) -> Any:
        raise NotImplementedError


class Fails(Broken):
    def made(self, count: int) -> Any:
        return 1 // 0


class GivesNothing(Broken):
    def made(self, count: int) -> Any:
        return None


class GivesNan(Broken):
    def made(self, count: int) -> Any:
        return np.full(count, np.nan)


class GivesWords(Broken):
    def made(self, count: int) -> Any:
        return np.full(count, "high")


class GivesMatrix(Broken):
    def made(self, count: int) -> Any:
        return np.zeros((count, 2))


class GivesOne(Broken):
    def made(self, count: int) -> Any:
        return 1.0


class GivesNegative(Broken):
    draw = "proportional"

    def made(self, count: int) -> Any:
        return np.full(count, -1.0)


class MixesTypes(Broken):
    def made(self, count: int) -> Any:
        self.given = np.float64 if self.given is np.float32 else np.float32
        return np.zeros(count, dtype=self.given)


class FailsInFit(Newest):
    def fit(self, log: LogView) -> None:
        raise KeyError("model.bin")


class TellsNoFacts(Newest):
    def facts(self, log: LogView, chosen: Rows) -> Any:
        return None


class TellsArrays(Newest):
    def facts(self, log: LogView, chosen: Rows) -> Any:
        return {"ends": np.zeros(2)}


class SwallowsErrors(Newest):
    """What it catches is not its own."""

    def fit(self, log: LogView) -> None:
        try:
            list(log.shards())
        except Exception as error:
            raise RuntimeError("no luck") from error


class NoRank(Selector):
    pass


class MisspeltFeature(Newest):
    features = ("timestamps",)


class TextForTuple(Newest):
    features = "timestamp"  # type: ignore[assignment]


class NoSuchDraw(Newest):
    draw = "lowest"  # type: ignore[assignment]


class OwnInit(Newest):
    def __init__(self, days: int) -> None:
        self.days = days


class WrongArguments(Newest):
    def rank(self) -> Any:  # type: ignore[override]
        return None


class PlainSettings(Newest):
    Settings = dict  # type: ignore[assignment]


class AsksForReference(Newest):
    def fit(self, log: LogView) -> None:
        log.reference.shards()


class NotOne:
    pass
