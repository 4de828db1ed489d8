"""The content of `comparison-TARGET.json`: what a comparison writes and its tables show."""

from __future__ import annotations

from typing import Literal, TypedDict

from pipeline.engine.estimate_record import EstimateRecord

#: The two things that a row is compared with: the control's coreset of the same size, and the untuned model.
DifferenceKind = Literal["difference", "from_zero_shot"]


class MetricRecord(EstimateRecord, total=False):
    """One metric of one row, with the paired differences that could be taken."""

    difference: EstimateRecord
    from_zero_shot: EstimateRecord


class SecondsRecord(TypedDict):
    """Mean wall seconds of an arm. `of_full` is the total divided by that of `full`; None without `full`."""

    scoring: float
    selection: float
    tuning: float
    total: float
    of_full: float | None


class VerdictRecord(TypedDict):
    """Whether a row is above its control and above zero-shot, beyond chance; None where there is no difference."""

    above_control: bool | None
    above_zero_shot: bool | None
    winner: bool


class ArmRow(VerdictRecord):
    """All arms of one model, selector and size.

    `best_steps` are ordered by seed and draw, and `untuned` counts those that are 0. `valid_loss` and `untuned_loss`
    are means over the arms and None for proxies. `metrics` goes from a part of the targets to a metric's name.
    """

    model: str
    selector: str
    size: float | None
    samples: int
    seeds: int
    arms: int
    sees_validation: bool
    best_steps: list[int]
    untuned: int
    valid_loss: float | None
    untuned_loss: float | None
    seconds: SecondsRecord
    metrics: dict[str, dict[str, MetricRecord]]


class Choice(TypedDict):
    """The selector that validation chooses for a size; None where no coreset is better than no tuning."""

    size: float
    selector: str | None


class ComparisonRecord(TypedDict):
    """A whole comparison. `asked` counts the arms of this request, `tried` all arms ever compared in the directory."""

    target: Literal["llm", "proxy"]
    selectors: list[str]
    sizes: list[float]
    seeds: int
    first_seed: int
    draws: int
    control: str
    users: dict[str, int]
    rows: list[ArmRow]
    chosen: list[Choice]
    warnings: list[str]
    asked: int
    tried: int
