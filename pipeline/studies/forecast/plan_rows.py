"""The rows that `dealrec plan` prints."""

from __future__ import annotations

from typing import TypedDict

StageForecast = TypedDict(
    "StageForecast",
    {
        "stage": str,
        "seconds": float,
        "fixed": float,
        "workers": int,
        "memory GiB": float,
        "CPU h": float,
        "GPU h": float,
        "cost": float,
        "basis": str,
    },
)


class TimeTotal(TypedDict):
    """The time of the whole run in seconds, and the stage that takes most of it."""

    seconds: float
    dominating: str


class PlanTotal(TimeTotal):
    """The time and the cost of the whole run."""

    cost: float


class PlannedLog(TypedDict):
    """The sizes of the whole log."""

    interactions: int
    users: int
    items: int
    samples: int


class PlanShare(TypedDict):
    """The share of the log that was measured: its users, and the seconds that its stages took."""

    users: int
    seconds: float


class RunPlan(TypedDict):
    """The result of `dealrec plan`."""

    stages: list[StageForecast]
    total: PlanTotal
    log: PlannedLog
    share: PlanShare
