"""What the selectors of a comparison ask of the surrogate beyond the run's two scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from cluster.progress import LineProgress
from cluster.storage import Storage
from pipeline.compare.arms import Arm
from pipeline.config import Config
from pipeline.graph import StageContext
from pipeline.stages.surrogate_features import SURROGATE_FEATURES, write_features
from pipeline.tables import train_shards
from scoring.selection import selector


def prepare_features(config: Config, run: Storage, arms: Sequence[Arm]) -> None:
    """Compute them in passes of their own: every arm finds them done, and none counts them as its selection.

    Ray is connected, and the shared stages are complete.
    """
    methods = [selector(name) for name in dict.fromkeys(arm.variant.method for arm in arms)]
    wanted = {name for method in methods for name in (*method.scores, *method.features)}
    names = [name for name in SURROGATE_FEATURES if name in wanted]
    if names:
        folders = {"ingest": run.child("data"), "surrogate": run.child("surrogate")}
        with closing(LineProgress("features")) as progress:
            context = StageContext(config, run, run, folders, progress)
            write_features(context, names, train_shards(folders["ingest"]))
