"""The stages that compute features for a selection; a run has those that its selector reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.digest import json_digest
from pipeline.engine.config import Config
from pipeline.engine.graph import Stage, StageContext
from pipeline.stages.selection_needs import SelectionNeeds

#: All settings of `influence` that change a score; its target does not, since the target is the reference.
_SOLVE_KEYS = (
    "solver",
    "scope",
    "damping",
    "curvature_samples",
    "tolerance",
    "max_iterations",
    "lissa_damp",
    "lissa_scale",
    "lissa_steps",
)
_FOLDER = "scores/surrogate"
_VERSION = 1

# Each stage imports its libraries when it runs, as in stage_list.


def _el2n(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.surrogate_feature_stage import run_surrogate_feature

    return run_surrogate_feature(context, "el2n")


def _grand(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.surrogate_feature_stage import run_surrogate_feature

    return run_surrogate_feature(context, "grand")


def _embedding(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.surrogate_feature_stage import run_surrogate_feature

    return run_surrogate_feature(context, "embedding")


def _reference_influence(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.reference_influence_stage import run_reference_influence

    return run_reference_influence(context)


def _nothing(config: Config) -> Mapping[str, object]:
    return {}


def _scope(config: Config) -> Mapping[str, object]:
    return {"scope": config.influence.scope}


def _solve_and_aim(config: Config) -> Mapping[str, object]:
    solve = {key: getattr(config.influence, key) for key in _SOLVE_KEYS}
    return {**solve, "reference": config.select.reference, "users": config.select.reference_users}


def _named(
    name: str, settings: Callable[[Config], Mapping[str, object]]
) -> Callable[[Config, Mapping[str, str | None]], str]:
    """Name a folder by a digest of all that the feature depends on: the settings, the data and the surrogate."""

    def variant(config: Config, contents: Mapping[str, str | None]) -> str:
        return f"{name}-{json_digest({'version': _VERSION, **settings(config), **contents})[:12]}"

    return variant


#: `SelectionNeeds.feature_stages` names them. Earlier versions of `select` computed the features itself in the same
#: folders, so the runs of those versions keep theirs.
FEATURE_STAGES = (
    Stage(
        name="el2n",
        folder=_FOLDER,
        needs=("ingest", "surrogate"),
        keys=(),
        version=_VERSION,
        work=_el2n,
        variant=_named("el2n", _nothing),
    ),
    Stage(
        name="grand",
        folder=_FOLDER,
        needs=("ingest", "surrogate"),
        keys=("influence.scope",),
        version=_VERSION,
        work=_grand,
        variant=_named("grand", _scope),
    ),
    Stage(
        name="embedding",
        folder=_FOLDER,
        needs=("ingest", "surrogate"),
        keys=(),
        version=_VERSION,
        work=_embedding,
        variant=_named("embedding", _nothing),
    ),
    Stage(
        name="reference_influence",
        folder=_FOLDER,
        needs=("ingest", "surrogate"),
        # max_nonfinite changes no score, but a complete stage has kept within it.
        keys=(
            *(f"influence.{key}" for key in (*_SOLVE_KEYS, "max_nonfinite")),
            "select.reference",
            "select.reference_users",
        ),
        version=_VERSION,
        work=_reference_influence,
        variant=_named("influence", _solve_and_aim),
    ),
)


def feature_stages(config: Config) -> tuple[Stage, ...]:
    """Return the stages that compute features for the configured selection."""
    needed = SelectionNeeds.of(config).feature_stages
    return tuple(stage for stage in FEATURE_STAGES if stage.name in needed)
