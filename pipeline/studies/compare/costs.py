"""The cost of a coreset before tuning: the wall seconds of the passes that its selector needs."""

from __future__ import annotations

from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import read_manifest
from pipeline.stages.selection_needs import SelectionNeeds
from pipeline.stages.stage_list import stages_before_selection

#: The file with the seconds of a feature, in run directories from before features were stages.
_EARLIER = "_seconds.json"


def scoring_seconds(config: Config, run: Storage) -> float:
    """Return the seconds of the surrogate, the scores and the features that the configured selection needs.

    The ingest is left out: every arm needs it. What several selectors share counts in full for each of them.
    """
    graph = Graph(stages_before_selection(config), config, run)
    needs = SelectionNeeds.of(config)
    folders = [graph.folder(stage) for stage in graph.needed([*needs.stages, *needs.feature_stages])[1:]]
    return sum(_seconds(folder) for folder in folders)


def _seconds(folder: Storage) -> float:
    manifest = read_manifest(folder)
    earlier = float(folder.read_json(_EARLIER)) if folder.exists(_EARLIER) else 0.0
    return earlier + (0.0 if manifest is None else manifest.seconds)
