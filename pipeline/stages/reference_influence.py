"""The influence of train samples on the risk of the reference period, for a selection that is aimed by it.

Beside the scores of the stage influence, which belong to the run, since each comparison may aim at another half.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.shards import finished_shards
from cluster.storage import Storage
from pipeline.engine.graph import StageContext
from pipeline.stages.influence_stage import SOLUTION, check_scores, score_samples
from pipeline.stages.reference_period import ReferencePeriod
from pipeline.stages.surrogate_features import feature_folder, seconds_kept, seconds_taken

_VERSION = 1
#: Keys of `influence` that change no score.
_WITHOUT_EFFECT = frozenset({"target", "max_nonfinite"})


def write_reference_influence(context: StageContext, period: ReferencePeriod, indices: Sequence[int]) -> Storage:
    """A file a shard like those of the stage influence, unless they are there; their folder.

    Solver, scope and damping are those of `influence`. A killed pass resumes with its missing shards.
    """
    out = _folder(context)
    finished = finished_shards(out, indices)
    if len(finished) == len(indices):
        # Of scores that were refused, all shards are there as well.
        check_scores(context.config.influence, out.read_json(SOLUTION), list(finished.values()))
        return out
    with seconds_kept(out):
        score_samples(context, out, "reference", lambda pool: pool.map("reference_gradient", period))
    return out


def reference_influence_seconds(context: StageContext) -> float:
    """Wall seconds that it took, so far; 0 where it is not there."""
    return seconds_taken(_folder(context))


def _folder(context: StageContext) -> Storage:
    config = context.config
    influence = config.influence.model_dump(exclude=set(_WITHOUT_EFFECT))
    aim = {"reference": config.select.reference, "users": config.select.reference_users}
    return feature_folder(context, "influence", {"version": _VERSION, **influence, **aim})
