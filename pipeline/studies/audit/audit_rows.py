"""The records of audit.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict


class ResampledEstimate(TypedDict):
    """A value with its interval; `resampled` is only there until the best ways are chosen."""

    value: float
    low: float
    high: float
    resampled: NotRequired[Sequence[float]]


class WayFacts(TypedDict, total=False):
    """What a worker found out about one way to score; `error` says why it could not be computed."""

    seconds: float
    residual: float | None
    iterations: int | None
    parameters: int
    error: str
    lds_train: ResampledEstimate
    lds_valid: ResampledEstimate


class AuditRow(TypedDict):
    """One way to score, as audit.json holds it; a value is None if it could not be computed."""

    label: str
    method: str
    scope: str | None
    damping: float | None
    lds_train: ResampledEstimate | None
    lds_valid: ResampledEstimate | None
    lds_mean: ResampledEstimate | None
    auc: ResampledEstimate | None
    seconds: float | None
    residual: float | None
    iterations: int | None
    parameters: int | None
    error: str | None


class RemovalRow(TypedDict):
    """What the removal of some samples did to the validation NDCG@10 and to the risks."""

    kind: str
    score: str | None
    seed: int
    removed: int
    ndcg_change: float
    train_risk_change: float
    valid_risk_change: float


class AuditResult(TypedDict):
    """The content of audit.json; `whole` holds the measures of the surrogate that lacks nothing."""

    scores: list[AuditRow]
    best: list[str]
    recommended: str | None
    whole: dict[str, object]
    removals: list[RemovalRow]
    samples: int
    subsets: int
    epochs: int


def risk_score(row: AuditRow, target: str) -> ResampledEstimate | None:
    """Return the linear datamodeling score for the risk `target`, `train` or `valid`."""
    return row["lds_train"] if target == "train" else row["lds_valid"]
