"""Compare by the LLM itself: the stages of a run fine-tune and evaluate every arm in its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph, Stage
from pipeline.engine.manifest import Manifest, read_manifest
from pipeline.engine.sample_tables import ragged_column
from pipeline.engine.selection_record import read_selection
from pipeline.stages.model_names import UNTUNED
from pipeline.stages.stage_list import ARM_STAGES, shared_stages, stages_of
from pipeline.studies.compare.arms import Arm
from pipeline.studies.compare.outcomes import TEST, ZERO_SHOT, Outcome
from pipeline.studies.compare.untuned_stage import UNTUNED_STAGE
from scoring.ragged import Ragged

_MODEL = "LLM"


def untuned_graph(config: Config, run: Storage) -> Graph:
    """Return the graph that ranks by the untuned model: the run's own evaluation if up to date, else a stage for it."""
    whole = Graph(stages_of(config), config, run)
    own = replace(whole, stages=tuple(whole.needed(["evaluate"])))
    if config.evaluate.baselines and _is_up_to_date(own, own.stages[-1:]):
        return own
    evaluate = config.evaluate.model_copy(update={"baselines": False})
    return Graph((*shared_stages([config]), UNTUNED_STAGE), config.model_copy(update={"evaluate": evaluate}), run)


def _is_up_to_date(graph: Graph, stages: Sequence[Stage]) -> bool:
    try:
        graph.check(stages)
    except UserError:
        return False
    return not graph.incomplete(stages)


def own_stages(graph: Graph) -> list[Stage]:
    """List the stages that an arm does not share with others."""
    return [stage for stage in graph.stages if stage.name in ARM_STAGES]


def llm_outcomes(graphs: Sequence[tuple[Arm, Graph]], untuned: Graph) -> list[Outcome]:
    """Read the outcomes of complete arms and of the untuned model."""
    zero_shot = _ranks(untuned.folder(untuned.stages[-1]), UNTUNED)
    outcomes = [Outcome(_MODEL, ZERO_SHOT, None, 0, 0, 0, {TEST: zero_shot})]
    for arm, graph in graphs:
        evaluation = graph.folder(graph.stage("evaluate"))
        select, tuned = (_manifest(graph, name) for name in ("select", "finetune"))
        report = read_selection(graph.folder(graph.stage("select")))
        losses = graph.folder(graph.stage("finetune")).read_json("losses.json")["valid"]
        outcomes.append(
            Outcome(
                _MODEL,
                arm.selector,
                arm.size,
                arm.training_seed,
                arm.draw,
                report["chosen"],
                {TEST: _ranks(evaluation, evaluation.read_json("metrics.json")["focus"])},
                report["sees_validation"],
                select.seconds,
                tuned.seconds,
                # The earliest among equals, since a step that gains nothing does not count.
                min(losses, key=lambda look: (look["loss"], look["step"]))["step"],
                tuned.facts["best"]["loss"],
                losses[0]["loss"],
            )
        )
    return outcomes


def _manifest(graph: Graph, name: str) -> Manifest:
    manifest = read_manifest(graph.folder(graph.stage(name)))
    assert manifest is not None
    return manifest


def _ranks(evaluation: Storage, label: str) -> Ragged:
    table = evaluation.read_table("predictions.parquet", ["model", "ranks"])
    return ragged_column(table.filter(pc.equal(table.column("model"), label)), "ranks")
