"""Stage influence: the gradient of the risk, one curvature solve, and a pass that scores every sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from cluster.broadcast import Broadcast
from pipeline.engine.config import InfluenceConfig
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import train_shards
from pipeline.stages.influence_passes import InfluenceWorker, Risk
from pipeline.stages.influence_solve import DIRECTION, InfluenceSolve, SolveFacts
from pipeline.stages.scoring_pass import ScoringPass
from pipeline.stages.surrogate_source import SHARDS_AT_ONCE, trained_surrogate
from pipeline.stages.worker_pools import scoring_pool
from scoring.curvature_draw import CurvatureCut

#: |mean I − ⟨v, h⟩| as a share of the scores' root mean square: float32 rounding and no more.
_IDENTITY_TOLERANCE = 1e-3


def run_influence(context: StageContext) -> Mapping[str, object]:
    """Score all train samples by their influence on the risk of train or of validation."""
    return score_influence(context, Risk(context.config.influence.target))


def score_influence(context: StageContext, risk: Risk, cut: CurvatureCut | None = None) -> dict[str, object]:
    """Score all train samples; the solve is kept, so a killed pass resumes with its missing shards.

    Parameters
    ----------
    risk : the risk whose change is estimated. With the train risk, the scores' mean is checked to be ⟨v, h⟩.
    cut : how the curvature samples are held; the default if left out.
    """
    section, out = context.config.influence, context.out
    pool = scoring_pool(context, len(train_shards(context.folder("ingest"))))
    source = trained_surrogate(context.folder("surrogate"), out, section.scope)
    solution = InfluenceSolve(context, source, pool, risk, cut or CurvatureCut()).solution()
    direction = Broadcast.put({"direction": solution.direction}, out, DIRECTION)
    arguments = {"source": source, "direction": direction}
    scored = ScoringPass.run(context, pool, InfluenceWorker, arguments, SHARDS_AT_ONCE)
    return {**asdict(solution.facts), **check_scores(section, solution.facts, scored), **scored.facts()}


def check_scores(section: InfluenceConfig, solve: SolveFacts, scored: ScoringPass) -> dict[str, float]:
    """Return the scores' moments, how many are not finite, and the error of the identity mean I = ⟨v, h⟩.

    Raises `UserError` above the allowed share of scores that are not finite, and `ArithmeticError` when the identity
    fails.
    """
    nonfinite = scored.require_finite(
        "influence",
        section.max_nonfinite,
        "Lower surrogate.lr or raise influence.damping, and recompute by `dealrec run CONFIG --from surrogate`.",
    )
    finite = max(1, scored.rows - nonfinite)
    mean = scored.total("sum") / finite
    rms = (scored.total("squares") / finite) ** 0.5
    facts = {"nonfinite": nonfinite, "mean": mean, "rms": rms}
    if solve.target == "train" and not nonfinite:
        facts["identity_error"] = abs(mean - solve.v_dot_h) / rms if rms else 0.0
        if facts["identity_error"] > _IDENTITY_TOLERANCE:
            raise ArithmeticError(f"the mean influence {mean:.6e} is not <v, h> = {solve.v_dot_h:.6e}")
    return facts
