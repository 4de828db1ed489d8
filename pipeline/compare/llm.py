"""A comparison by the LLM itself: every arm fine-tuned and evaluated by the stages of a run, in its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.compare.arms import Arm, arm_graph
from pipeline.compare.outcomes import TEST, ZERO_SHOT, Outcome
from pipeline.config import Config
from pipeline.graph import Graph, Stage
from pipeline.manifest import Manifest, read_manifest
from pipeline.stages.catalogue import ARM_STAGES, UNTUNED_STAGE, shared_stages, stages_of
from pipeline.stages.evaluate_workers import UNTUNED
from pipeline.stages.validation_half import aims_at_validation
from pipeline.tables import ragged_column
from scoring.ragged import Ragged

_MODEL = "LLM"


def llm_graph(config: Config, run: Storage, arm: Arm) -> Graph:
    """The graph of an arm. What the run itself has tuned and evaluated by these settings is not done twice."""
    section = config.select
    own = _own_graph(config, run)
    same = (arm.selector, arm.size, arm.seed, section.seed) == (section.method, section.size, 0, 0)
    # The run aims at all validation users, an arm at half of them.
    if same and not aims_at_validation(section) and _is_up_to_date(own, own.stages):
        return own
    return arm_graph(config, run, arm)


def untuned_graph(config: Config, run: Storage) -> Graph:
    """What ends in the untuned model's ranks: the run's own evaluation if it is up to date, else a stage for it."""
    own = _own_graph(config, run)
    if config.evaluate.baselines and _is_up_to_date(own, own.stages[-1:]):
        return own
    evaluate = config.evaluate.model_copy(update={"baselines": False})
    return Graph(
        (*shared_stages([config.select]), UNTUNED_STAGE), config.model_copy(update={"evaluate": evaluate}), run
    )


def _own_graph(config: Config, run: Storage) -> Graph:
    """What the run itself tunes and evaluates."""
    whole = Graph(stages_of(config.select), config, run)
    return replace(whole, stages=tuple(whole.needed(["evaluate"])))


def _is_up_to_date(graph: Graph, stages: Sequence[Stage]) -> bool:
    try:
        graph.check(stages)
    except UserError:
        return False
    return not graph.incomplete(stages)


def own_stages(graph: Graph) -> list[Stage]:
    """The stages that an arm does not share."""
    return [stage for stage in graph.stages if stage.name in ARM_STAGES]


def llm_outcomes(graphs: Sequence[tuple[Arm, Graph]], untuned: Graph) -> list[Outcome]:
    """The outcomes of complete arms, and of the untuned model."""
    zero_shot = _ranks(untuned.folder(untuned.stages[-1]), UNTUNED)
    outcomes = [Outcome(_MODEL, ZERO_SHOT, None, 0, 0, 0, {TEST: zero_shot})]
    for arm, graph in graphs:
        evaluation = graph.folder(graph.stage("evaluate"))
        select, tuned = (_manifest(graph, name) for name in ("select", "finetune"))
        report = graph.folder(graph.stage("select")).read_json("selection.json")
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
