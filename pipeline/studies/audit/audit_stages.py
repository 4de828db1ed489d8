"""The stages that an audit adds to a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.engine.graph import Stage, StageContext
from pipeline.stages.stage_list import STAGES


def _retrain(context: StageContext) -> Mapping[str, object]:
    from pipeline.studies.audit.retrain_stage import run_retrain

    return run_retrain(context)


def _audit(context: StageContext) -> Mapping[str, object]:
    from pipeline.studies.audit.audit_stage import run_audit

    return run_audit(context)


RETRAIN = Stage(
    name="retrain",
    command="audit",
    folder="retrained",
    needs=("ingest", "surrogate"),
    keys=("audit.subsets", "audit.removed", "audit.queries", "audit.planted", "audit.seed"),
    version=3,
    work=_retrain,
    subfolders=("subsets", "planted"),
    unit="parts",
)
AUDIT = Stage(
    name="audit",
    command="audit",
    folder="audit",
    needs=("ingest", "surrogate", "retrain"),
    # The audit compares its own solvers, scopes and dampings.
    keys=(
        "audit",
        "influence.target",
        "influence.curvature_samples",
        "influence.tolerance",
        "influence.max_iterations",
        "influence.lissa_damp",
        "influence.lissa_scale",
        "influence.lissa_steps",
    ),
    version=5,
    work=_audit,
    subfolders=("scores", "extremes"),
    unit="parts",
)
#: `dealrec audit` also recomputes the stages that it shares with a run, and no other stage of the run.
AUDIT_STAGES = (replace(STAGES[0], command="audit"), replace(STAGES[1], command="audit"), RETRAIN, AUDIT)
AUDIT_STAGE_NAMES = tuple(stage.name for stage in AUDIT_STAGES)
