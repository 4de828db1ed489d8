"""Execute stages, ingest first, and check the ingested log before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.engine.config import Config, SelectConfig
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, Stage, StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.watching import UNWATCHED, StageWatcher
from pipeline.ingest.statistics_record import read_statistics, train_count
from pipeline.stages.selection_needs import REFERENCE_INFLUENCE, SelectionNeeds
from pipeline.stages.stage_list import LLM_STAGES, UNTUNED_NAME
from scoring.candidate_rule import asked_candidates
from scoring.exceptions import TooFewSamplesError
from scoring.selection import FULL
from scoring.selectors.coreset_size import asked_size


def execute(
    graph: Graph,
    stages: Sequence[Stage],
    selections: Sequence[SelectConfig],
    key: str = "select.size",
    work: Sequence[str] | None = None,
    watcher: StageWatcher = UNWATCHED,
) -> None:
    """Bring `stages` up to date.

    Parameters
    ----------
    selections : the selections that will read these stages.
    key : the option or key by which the user gave the sizes.
    work : the names of all stages that still have work to do, later ones included; by default the incomplete ones of
        `stages`.
    watcher : is told when stages begin and are complete.

    Raises
    ------
    UserError : the log does not allow what is asked for, or a stage raised it.
    """
    events = EventLog(graph.run)
    if work is None:
        work = [stage.name for stage in graph.incomplete(stages)]
    ingest = [stage for stage in stages if stage.name == "ingest"]
    graph.execute(ingest, events, watcher)
    data = graph.folder(graph.stage("ingest"))
    if read_manifest(data) is not None:
        check_log(graph.config, graph.run, data, work, selections, key)
    graph.execute([stage for stage in stages if stage.name != "ingest"], events, watcher)


def check_log(
    config: Config, run: Storage, data: Storage, stages: Sequence[str], selections: Sequence[SelectConfig], key: str
) -> None:
    """Refuse what these stages cannot do with the ingested log, and log which titles are cut.

    Raises
    ------
    UserError : a selection wants more samples than there are, no candidate is left for effort, a scope is too large for
        its solver, the surrogate lacks a feature that a selector needs, the reference period is empty, a title is
        too long where that is an error, or the catalogue is too large for the decoding.
    """
    from pipeline.preflight.config_checks import check_scope, require_decoding
    from pipeline.stages.effort_candidates import require_candidates

    require_samples(data, selections, key)
    if "effort" in stages and config.effort.candidates != "all":
        share = config.effort.candidates
        require_candidates(share, asked_candidates(share, train_count(data)) > 0)
    if {"influence", REFERENCE_INFLUENCE} & set(stages) and config.influence.solver == "exact":
        # Its scope may include the item embeddings, and their number is known only now.
        items = read_statistics(data)["items"]["all"]
        check_scope(config, "influence.scope", config.influence.scope, ("exact",), items)
    for section in {(s.method, s.influence, s.reference, s.reference_users): s for s in selections}.values():
        _check_selection(config, run, data, section)
    if LLM_STAGES & set(stages):
        from pipeline.stages.prompt_titles import announce_titles, llm_titles

        announce_titles(config, run, data)
        if {"evaluate", UNTUNED_NAME} & set(stages):
            require_decoding(config, len(set(llm_titles(config, data).titles[1:])))


def _check_selection(config: Config, run: Storage, data: Storage, section: SelectConfig) -> None:
    """Check that a selector finds what it reads beside scores: surrogate features and a reference period."""
    from pipeline.preflight.config_checks import require_features

    chosen = config.model_copy(update={"select": section})
    needs = SelectionNeeds.of(chosen)
    require_features(chosen, needs, data)
    if needs.reference is not None:
        from pipeline.stages.reference_period import reference_period

        reference_period(StageContext(chosen, run, run, {"ingest": data}, SilentProgress()))


def require_samples(data: Storage, selections: Sequence[SelectConfig], key: str) -> None:
    """Raise `UserError` when a selection asks for more samples than the log has."""
    sizes = [section.size for section in selections if section.method != FULL]
    if not sizes:
        return
    try:
        asked_size(max(sizes), train_count(data))
    except TooFewSamplesError as error:
        raise UserError(f"{key}: {error}.", f"Lower {key}, or take more samples by samples.per_user.") from error
