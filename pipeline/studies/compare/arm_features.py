"""What the selectors of a comparison ask of the surrogate beyond the run's two scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from cluster.progress import LineProgress
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import train_shards
from pipeline.stages.reference_influence import write_reference_influence
from pipeline.stages.reference_period import reference_period
from pipeline.stages.surrogate_features import SURROGATE_FEATURES, write_features
from pipeline.stages.validation_half import aimed_influence
from pipeline.studies.compare.arms import Arm, arm_config
from scoring.selection import selector


def prepare_features(config: Config, run: Storage, arms: Sequence[Arm]) -> None:
    """Compute them in passes of their own: every arm finds them done, and none counts them as its selection.

    Ray is connected, and the shared stages are complete.
    """
    made = [arm_config(config, arm) for arm in arms]
    methods = [selector(name) for name in dict.fromkeys(each.select.method for each in made)]
    wanted = {name for method in methods for name in (*method.scores, *method.features)}
    names = [name for name in SURROGATE_FEATURES if name in wanted]
    # One influence for every reference that is aimed at.
    aimed = {each.select.reference: each for each in made if aimed_influence(each.select)}
    if not names and not aimed:
        return
    folders = {"ingest": run.child("data"), "surrogate": run.child("surrogate")}
    indices = train_shards(folders["ingest"])
    with closing(LineProgress("features")) as progress:
        context = StageContext(config, run, run, folders, progress)
        write_features(context, names, indices)
        for each in aimed.values():
            own = replace(context, config=each)
            write_reference_influence(own, reference_period(own), indices)
