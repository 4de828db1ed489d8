"""The stage that a comparison adds to a run: the LLM before any tuning, evaluated like the arms."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.engine.graph import Stage, StageContext
from pipeline.stages.stage_list import LLM_KEYS, UNTUNED_NAME, evaluated_files


def _untuned(context: StageContext) -> Mapping[str, object]:
    """Do what `run_evaluate` does, without an adapter."""
    from pipeline.stages.evaluate_stage import evaluate_model
    from pipeline.stages.model_names import UNTUNED

    return evaluate_model(context, UNTUNED, None)


UNTUNED_STAGE = Stage(
    name=UNTUNED_NAME,
    command=None,
    folder="arms/untuned/eval",
    needs=("ingest",),
    keys=("evaluate", *LLM_KEYS),
    version=3,
    work=_untuned,
    sources=evaluated_files,
    unit="parts",
)
