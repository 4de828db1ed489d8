"""Stage untuned, of a comparison: the LLM as it is before any tuning, evaluated like the arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.graph import StageContext
from pipeline.stages.evaluate import evaluate_model
from pipeline.stages.evaluate_workers import UNTUNED


def run_untuned(context: StageContext) -> Mapping[str, Any]:
    """As `run_evaluate`, without an adapter."""
    return evaluate_model(context, UNTUNED, None)
