"""The facts of a stage's manifest that the forecast reads."""

from __future__ import annotations

from typing import TypedDict

from training.loops.training_records import TrunkWork


class EpochFacts(TypedDict):
    """One epoch of the surrogate's training."""

    samples_per_second: float
    valid_seconds: float


class SurrogateStageFacts(TypedDict):
    """Facts of the surrogate stage; memory in bytes."""

    epochs: list[EpochFacts]
    peak_memory: int


class InfluenceFacts(TypedDict):
    """Facts of the influence stage; memory in bytes."""

    gradient_seconds: float
    solve_seconds: float
    busy_seconds: float
    curvature_samples: int
    workers: int
    peak_memory: int


class EffortFacts(TypedDict):
    """Facts of the effort stage; memory in bytes."""

    busy_seconds: float
    scored: int
    tokens: int
    workers: int
    peak_memory: int


class TunedSamples(TypedDict):
    """The samples that a fine-tuning trains and validates on."""

    train: int
    valid: int


class FinetuneFacts(TypedDict):
    """Facts of the fine-tuning stage; memory in bytes."""

    epochs: int
    samples: TunedSamples
    tokens: int
    tokens_per_second: float
    seconds: float
    valid_seconds: float
    trunk: TrunkWork | None
    peak_memory: int


class EvaluateFacts(TypedDict):
    """Facts of the evaluation stage; memory in bytes."""

    titles: int
    title_seconds: float
    users: int
    busy_seconds: float
    workers: int
    peak_memory: int
