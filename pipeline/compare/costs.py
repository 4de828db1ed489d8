"""What a coreset costs before anything is tuned on it: wall seconds of the passes that its selector needs."""

from __future__ import annotations

from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.config import Config
from pipeline.graph import StageContext
from pipeline.manifest import read_manifest
from pipeline.stages.catalogue import shared_stages
from pipeline.stages.surrogate_features import SURROGATE_FEATURES, feature_seconds
from scoring.selection import selector


def scoring_seconds(config: Config, run: Storage, method: str) -> float:
    """Seconds of the surrogate, of the scores and of the surrogate's features, as far as the method needs them.

    The ingest is left out: every arm needs it. What several selectors share counts in full for each of them.
    """
    stages = [stage for stage in shared_stages([method]) if stage.name != "ingest"]
    folders = {"ingest": run.child("data"), "surrogate": run.child("surrogate")}
    context = StageContext(config, run, run, folders, SilentProgress())
    manifests = [read_manifest(run.child(*stage.folder.split("/"))) for stage in stages]
    chosen = selector(method)
    names = [name for name in SURROGATE_FEATURES if name in (*chosen.scores, *chosen.features)]
    seconds = [manifest.seconds for manifest in manifests if manifest is not None]
    return sum(seconds) + sum(feature_seconds(context, name) for name in names)
