"""The models that a run can recommend by, and whether its results are those of the config at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph, Stage
from pipeline.engine.manifest import Manifest, read_manifest
from pipeline.recommend.known_models import MODELS, NEEDS
from pipeline.stages.stage_list import stages_of


def model_folders(config: Config, run: Storage, model: str) -> Mapping[str, Storage]:
    """Return the folders of the stages that a model reads, by their names.

    The log itself is not read, so a run can serve without its log. Results of an earlier version of a stage are read as
    well, since the files have kept their form.

    Raises `UserError` if such a stage is not complete, naming the models that the run has, and if its result belongs to
    another config.
    """
    graph = Graph(stages_of(config), config, run)
    missing = [name for name in NEEDS[model] if read_manifest(graph.folder(graph.stage(name))) is None]
    if missing:
        have = [name for name in MODELS if not _lacks(graph, name)]
        stage = missing[0]
        raise UserError(
            f"--model {model} needs the stage {stage}, which is not complete in {run.uri}. This run has "
            f"{f'the models {_listed(have)}' if have else 'no model yet'}.",
            f"Run `dealrec run CONFIG --run-dir {run.uri} --until {stage}`"
            + (", or choose another --model." if have else "."),
        )
    settled = Graph(tuple(_as_made(graph, stage) for stage in graph.stages), config, run)
    settled.check([settled.stage(name) for name in NEEDS[model]])
    return {name: settled.folder(settled.stage(name)) for name in NEEDS[model]}


def contents(folders: Mapping[str, Storage]) -> dict[str, str]:
    """Return the content of each complete stage."""
    return {name: manifest.content for name, folder in folders.items() if (manifest := read_manifest(folder))}


def _lacks(graph: Graph, model: str) -> bool:
    return any(read_manifest(graph.folder(graph.stage(name))) is None for name in NEEDS[model])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _as_made(graph: Graph, stage: Stage) -> Stage:
    """Return the stage with the version of its result; ingest also gets the log that the result was made from."""
    made = read_manifest(graph.folder(stage))
    if made is None:
        return stage
    stage = replace(stage, version=made.fingerprint.version)
    return replace(stage, sources=lambda config: _inputs(made)) if stage.name == "ingest" else stage


def _inputs(made: Manifest) -> Mapping[str, object]:
    return made.fingerprint.inputs
