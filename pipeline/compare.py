"""Several coresets of the same run, tuned and evaluated alike: one table.

Everything up to the scores is shared; an arm has its own coreset, model and evaluation under `arms/`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.config import Config
from pipeline.events import EventLog
from pipeline.graph import Graph, Stage
from pipeline.manifest import read_manifest
from pipeline.run import session
from pipeline.stages.catalogue import ARM_STAGES, SHARED_STAGES, STAGES, arm_stages
from pipeline.summary import headline_row
from scoring.selection import METHODS

log = logging.getLogger("dealrec.run")


def arm_name(selector: str, size: float, seed: int) -> str:
    """The folder of an arm below `arms/`; the size is the configured one, a count or a share."""
    return f"{selector}-n{size:g}-s{seed}"


def compare_arms(config: Config, run: Storage, selectors: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """Run every selector with every seed, and return a row an arm.

    The arm that is the run itself (its selector, size and seed) is not computed twice.

    Raises `UserError` for an unknown selector and for a directory of another configuration.
    """
    unknown = [name for name in selectors if name not in METHODS]
    if unknown or seeds < 1:
        raise UserError(
            f"--selectors {','.join(selectors)} --seeds {seeds}: "
            + (f"no selector {unknown[0]}." if unknown else "no seed."),
            f"The selectors are {', '.join(sorted(METHODS))}; seeds count from 1.",
        )
    graphs = arm_graphs(config, run, selectors, seeds)
    Graph(SHARED_STAGES, config, run).check(SHARED_STAGES)
    for graph in graphs.values():
        graph.check(_own(graph))
    if any(graph.incomplete(graph.stages) for graph in graphs.values()):
        _run_arms(config, run, list(graphs.values()))
    return [_arm_row(graph, selector, seed) for (selector, seed), graph in graphs.items()]


def arm_graphs(config: Config, run: Storage, selectors: Sequence[str], seeds: int) -> dict[tuple[str, int], Graph]:
    """The graph of every (selector, seed); only its own stages and what they need."""
    arms = [(selector, seed) for selector in selectors for seed in range(seeds)]
    return {arm: _arm_graph(config, run, *arm) for arm in arms}


def _run_arms(config: Config, run: Storage, graphs: Sequence[Graph]) -> None:
    from pipeline.preflight import check_before_run, check_cluster

    shared = Graph(SHARED_STAGES, config, run)
    check_before_run(config, [stage.name for stage in STAGES])
    events = EventLog(run)
    with session(config):
        check_cluster(config, ARM_STAGES, run)
        shared.execute(shared.stages, events)
        for graph in graphs:
            graph.execute(_own(graph), events)


def _own(graph: Graph) -> list[Stage]:
    """The stages that an arm does not share."""
    return [stage for stage in graph.stages if stage.name in ARM_STAGES]


def _arm_graph(config: Config, run: Storage, selector: str, seed: int) -> Graph:
    """The graph of an arm; the arm that the run itself computes is the run's own folders."""
    select = config.select.model_copy(update={"method": selector, "seed": seed})
    finetune = config.finetune.model_copy(update={"seed": config.finetune.seed + seed - config.select.seed})
    if selector == config.select.method and seed == config.select.seed:
        return Graph(tuple(stage for stage in STAGES if stage.name != "report"), config, run)
    evaluate = config.evaluate.model_copy(update={"baselines": False})
    arm_config = config.model_copy(update={"select": select, "finetune": finetune, "evaluate": evaluate})
    return Graph(SHARED_STAGES + arm_stages(arm_name(selector, config.select.size, seed)), arm_config, run)


def _arm_row(graph: Graph, selector: str, seed: int) -> dict[str, Any]:
    metrics = graph.folder(graph.stage("evaluate")).read_json("metrics.json")
    row = headline_row(selector, metrics["models"][metrics["focus"]])
    select = read_manifest(graph.folder(graph.stage("select")))
    finetune = read_manifest(graph.folder(graph.stage("finetune")))
    assert select is not None
    assert finetune is not None
    return {
        **row,
        "seed": seed,
        "samples": select.facts["chosen"],
        "finetune s": round(finetune.seconds, 1),
    }
