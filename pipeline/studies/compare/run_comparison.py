"""Bring all arms of a comparison up to date, and tell which selectors are better than random at what cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from typing import Literal

from cluster.errors import UserError
from cluster.progress import LineProgress
from cluster.storage import Storage
from pipeline.driver.run_directory import session
from pipeline.engine.config import Config, SelectConfig
from pipeline.engine.config_file import dump_config
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph
from pipeline.stages.selection_needs import SelectionNeeds
from pipeline.stages.stage_list import TITLE_EMBEDDINGS, shared_stages
from pipeline.studies.compare.arm_features import ArmFeatures
from pipeline.studies.compare.arms import Arm, Request, arm_config, arm_graph
from pipeline.studies.compare.outcomes import TEST, Outcome
from pipeline.studies.compare.records import ComparisonRecord
from pipeline.studies.compare.stale_arms import check_arms, check_shared

log = logging.getLogger("dealrec.run")

Target = Literal["llm", "proxy"]
PROXY_NAMES = ("semantic", "lexical")
_TRIED = "arms/tried.json"
_SIZES = "--sizes (by default select.size)"
#: The configuration of the run; a comparison with other settings leaves it as it is.
CONFIG = "config.yaml"


def compare(
    config: Config,
    run: Storage,
    request: Request,
    target: Target,
    proxies: Sequence[str] = PROXY_NAMES,
    at_once: int | None = None,
) -> ComparisonRecord:
    """Run the arms that are missing, and write `arms/comparison-TARGET.json` and `.html`.

    Parameters
    ----------
    at_once : the number of LLM arms to tune side by side; None for as many as the cluster has workers for.

    Returns
    -------
    The content of the JSON file.

    Raises
    ------
    UserError : the request is impossible, or the directory holds results of another configuration.
    """
    unknown = [name for name in proxies if name not in PROXY_NAMES]
    if unknown or not proxies:
        named = f"unknown proxy {', '.join(unknown)}" if unknown else "no proxy given"
        raise UserError(f"--proxies: {named}.", f"The proxies are {', '.join(PROXY_NAMES)}.")
    if at_once is not None and at_once < 1:
        raise UserError(f"--arms-at-once must be at least 1, got {at_once}.", "Give 1 or more, or leave it out.")
    arms = request.arms()
    shared = Graph(shared_stages([arm_config(config, arm) for arm in arms]), config, run)
    check_shared(shared)
    features = ArmFeatures(config, run, arms)
    features.check()
    if not run.exists(CONFIG):
        run.write_text(CONFIG, dump_config(config))
    outcomes = (
        _by_llm(shared, features, arms, at_once) if target == "llm" else _by_proxies(shared, features, arms, proxies)
    )
    result = _result(config, run, request, target, outcomes, _count_tried(run, target, arms))
    run.write_text(f"arms/config-{target}.yaml", dump_config(config))
    run.write_json(f"arms/comparison-{target}.json", result)
    from pipeline.studies.compare.comparison_page import comparison_page

    run.write_text(f"arms/comparison-{target}.html", comparison_page(result))
    return result


def _by_llm(shared: Graph, features: ArmFeatures, arms: Sequence[Arm], at_once: int | None) -> list[Outcome]:
    from pipeline.studies.compare.llm_arms import llm_outcomes, own_stages, untuned_graph

    config, run = shared.config, shared.run
    untuned = untuned_graph(config, run)
    evaluation = untuned.stages[-1:]
    graphs = [(arm, arm_graph(config, run, arm)) for arm in arms]
    own = [(arm.name, graph, own_stages(graph)) for arm, graph in graphs]
    check_arms(run, [("untuned", untuned, evaluation), *own])
    missing = [(arm, graph) for arm, graph in graphs if graph.incomplete(own_stages(graph))]
    if missing or untuned.incomplete(evaluation):
        from pipeline.driver.execute import execute
        from pipeline.preflight.before_run import check_before_run, check_cluster
        from pipeline.stages.trunk_home import trunk_removed

        # The stages of an arm include an evaluation, which is all that the untuned model needs.
        last = [stage.name for stage in own_stages(missing[0][1])] if missing else ["evaluate"]
        names = [*(stage.name for stage in shared.incomplete(shared.stages)), *features.incomplete(), *last]
        check_before_run(config, names, run)
        with session(config):
            check_cluster(config, names, run, _selections(config, arms))
            execute(shared, shared.stages, _selections(config, arms), _SIZES, names)
            features.compute()
            untuned.execute(evaluation, EventLog(run))
            with trunk_removed(config, run):
                _run_arms(config, run, missing, at_once, EventLog(run))
    return llm_outcomes(graphs, untuned)


def _run_arms(
    config: Config, run: Storage, arms: Sequence[tuple[Arm, Graph]], at_once: int | None, events: EventLog
) -> None:
    """Select, fine-tune and evaluate; the driver does so itself when only one arm runs at a time."""
    from pipeline.studies.compare.llm_arms import own_stages
    from pipeline.studies.compare.parallel import arms_at_once, drive_arms

    if not arms:
        return
    count = min(len(arms), at_once or arms_at_once(config))
    if count == 1:
        for _, graph in arms:
            graph.execute(own_stages(graph), events)
        return
    with closing(LineProgress("compare", "arms")) as progress:
        drive_arms(config, run, [arm for arm, _ in arms], count, progress)


def _by_proxies(shared: Graph, features: ArmFeatures, arms: Sequence[Arm], proxies: Sequence[str]) -> list[Outcome]:
    from pipeline.studies.compare.proxy_arms import finished_outcomes, proxy_outcomes

    config, run = shared.config, shared.run
    graphs = [(arm.name, arm_graph(config, run, arm)) for arm in arms]
    check_arms(run, [(name, graph, [graph.stage("select")]) for name, graph in graphs])
    names = [stage.name for stage in shared.incomplete(shared.stages)]
    found = None if names else finished_outcomes(config, run, arms, proxies)
    if found is not None:
        return found
    from pipeline.driver.execute import execute
    from pipeline.preflight.before_run import check_before_run, check_cluster
    from training.loops.proxy_model import SEMANTIC

    # The LLM embeds the titles.
    work = [*names, *features.incomplete(), *([TITLE_EMBEDDINGS] if SEMANTIC in proxies else [])]
    check_before_run(config, work, run)
    with session(config):
        check_cluster(config, work, run, _selections(config, arms))
        execute(shared, shared.stages, _selections(config, arms), _SIZES, work)
        features.compute()
        return proxy_outcomes(config, run, arms, proxies)


def _result(
    config: Config, run: Storage, request: Request, target: Target, outcomes: Sequence[Outcome], tried: int
) -> ComparisonRecord:
    from pipeline.studies.compare.arm_table import comparison_rows, unequal_sizes
    from pipeline.studies.compare.compared_users import masking_notices, read_users, target_slices
    from pipeline.studies.compare.costs import scoring_seconds
    from pipeline.studies.compare.verdict import chosen_by_validation, harmful_control

    data = run.child("data")
    users = read_users(config, data)
    costs = {arm.selector: scoring_seconds(arm_config(config, arm), run) for arm in request.arms()}
    slices = target_slices(data, users[TEST].targets.values)
    rows = comparison_rows(outcomes, slices, costs, request.control, config.evaluate.cutoffs)
    unfit = {arm.selector for arm in request.arms() if _has_seen_all(arm_config(config, arm))}
    return {
        "target": target,
        "selectors": list(request.selectors),
        "sizes": list(request.sizes),
        "seeds": request.seeds,
        "first_seed": request.first_seed,
        "draws": request.draws,
        "control": request.control,
        "users": {split: len(asked) for split, asked in users.items()},
        "rows": rows,
        "chosen": chosen_by_validation(rows, unfit),
        "warnings": [
            *_lacking(request),
            *unequal_sizes(rows, request.control),
            *harmful_control(rows, request.control),
            *masking_notices(users),
        ],
        "asked": len(request.arms()),
        "tried": tried,
    }


def _has_seen_all(config: Config) -> bool:
    """Tell whether the selection reads an influence on the risk of all validation users."""
    return SelectionNeeds.of(config).valid_influence


def _lacking(request: Request) -> list[str]:
    """Return a warning where a table that readers expect is missing."""
    if request.control in request.selectors:
        return []
    return [f"{request.control} is not among the selectors, so the tables show no differences from it"]


def _selections(config: Config, arms: Sequence[Arm]) -> list[SelectConfig]:
    return [arm_config(config, arm).select for arm in arms]


def _count_tried(run: Storage, target: Target, arms: Sequence[Arm]) -> int:
    """Count all arms ever compared in this directory: the more were tried, the less the best one means."""
    tried = run.read_json(_TRIED) if run.exists(_TRIED) else {}
    tried[target] = sorted({*tried.get(target, ()), *(arm.name for arm in arms)})
    run.write_json(_TRIED, tried)
    return len(tried[target])
