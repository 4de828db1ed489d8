"""What a coreset costs before anything is tuned on it: wall seconds of the passes that its selector needs."""

from __future__ import annotations

from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.stages.reference_influence import reference_influence_seconds
from pipeline.stages.stage_list import shared_stages
from pipeline.stages.surrogate_features import SURROGATE_FEATURES, feature_seconds
from pipeline.stages.validation_half import aimed_influence
from scoring.selection import selector


def scoring_seconds(config: Config, run: Storage) -> float:
    """Seconds of the surrogate, of the scores and of the surrogate's features, as far as `config.select` needs them.

    The ingest is left out: every arm needs it. What several selectors share counts in full for each of them.
    """
    stages = [stage for stage in shared_stages([config]) if stage.name != "ingest"]
    folders = {"ingest": run.child("data"), "surrogate": run.child("surrogate")}
    context = StageContext(config, run, run, folders, SilentProgress())
    manifests = [read_manifest(run.child(*stage.folder.split("/"))) for stage in stages]
    seconds = sum(manifest.seconds for manifest in manifests if manifest is not None)
    chosen = selector(config.select.method)
    names = [name for name in SURROGATE_FEATURES if name in (*chosen.scores, *chosen.features)]
    seconds += sum(feature_seconds(context, name) for name in names)
    return seconds + (reference_influence_seconds(context) if aimed_influence(config.select) else 0.0)
