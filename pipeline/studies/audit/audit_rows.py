"""The records of audit.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from pipeline.engine.estimate_record import EstimateRecord, estimate_record
from scoring.datamodeling import Estimate

#: The file in the audit's folder that holds an `AuditResult`.
RESULT = "audit.json"
#: What a worker found out about one retrained surrogate: its metrics, its risks as a whole and by query, and the number
#: of samples that it lacks.
RetrainFacts = TypedDict(
    "RetrainFacts",
    {
        "ndcg@10": float,
        "recall@10": float,
        "train_risk": float,
        "valid_risk": float,
        "train_risks": list[float],
        "valid_risks": list[float],
        "removed": int,
    },
)


class ResampledEstimate(EstimateRecord):
    """An estimate with its resamples, which are only there until the best ways are chosen."""

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
    whole: RetrainFacts
    removals: list[RemovalRow]
    samples: int
    subsets: int
    epochs: int


def risk_score(row: AuditRow, target: str) -> ResampledEstimate | None:
    """Return the linear datamodeling score for the risk `target`, `train` or `valid`."""
    return row["lds_train"] if target == "train" else row["lds_valid"]


def resampled_record(estimate: Estimate) -> ResampledEstimate:
    """Return an estimate as a record, with its resamples."""
    return {**estimate_record(estimate), "resampled": estimate.resampled}


def estimate_of(record: ResampledEstimate) -> Estimate:
    """Return the estimate that a record holds."""
    return Estimate(record["value"], record["low"], record["high"], tuple(record.get("resampled", ())))
