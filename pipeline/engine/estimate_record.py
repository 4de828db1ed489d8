"""An estimate with its interval, as the studies keep it in their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from scoring.datamodeling import Estimate


class EstimateRecord(TypedDict):
    """A value with the ends of its 95% bootstrap interval."""

    value: float
    low: float
    high: float


def estimate_record(estimate: Estimate) -> EstimateRecord:
    """Return an estimate as a record, without its resamples."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
