"""Stage reference_influence: the influence of train samples on the risk of the reference period.

Stage influence has the scores of the run. These scores are kept apart from them, because each comparison may aim at
another half of the validation users.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.engine.graph import StageContext
from pipeline.stages.influence_passes import Risk
from pipeline.stages.influence_stage import score_influence
from pipeline.stages.reference_period import reference_period


def run_reference_influence(context: StageContext) -> Mapping[str, object]:
    """Score all train samples by the solver, scope and damping of `influence`; a killed pass resumes."""
    return score_influence(context, Risk("reference", reference_period(context)))
