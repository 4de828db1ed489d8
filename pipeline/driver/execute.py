"""Executes stages, the log first: what the others cannot do with it is refused before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.engine.config import Config, SelectConfig
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, Stage, StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import train_count
from pipeline.stages.stage_list import LLM_STAGES
from scoring.exceptions import TooFewSamplesError
from scoring.selection import FULL
from scoring.selectors.coreset_size import asked_size


def execute(
    graph: Graph,
    stages: Sequence[Stage],
    selections: Sequence[SelectConfig],
    key: str = "select.size",
    work: Sequence[str] | None = None,
) -> None:
    """Bring `stages` up to date, which `selections` are to be made from.

    Parameters
    ----------
    key : where the user has given the sizes.
    work : names of all stages that are to do something, what comes after `stages` included; those of `stages` that
        are not complete if left out.

    Raises `UserError` for what the log does not allow, and whatever a stage does.
    """
    events = EventLog(graph.run)
    if work is None:
        work = [stage.name for stage in graph.incomplete(stages)]
    ingest = [stage for stage in stages if stage.name == "ingest"]
    graph.execute(ingest, events)
    data = graph.folder(graph.stage("ingest"))
    if read_manifest(data) is not None:
        check_log(graph.config, graph.run, data, work, selections, key)
    graph.execute([stage for stage in stages if stage.name != "ingest"], events)


def check_log(
    config: Config, run: Storage, data: Storage, stages: Sequence[str], selections: Sequence[SelectConfig], key: str
) -> None:
    """Refuse what these stages cannot do with the ingested log, and say which titles are cut.

    Raises `UserError` for a selection of more samples than there are, for candidates of effort that are none, for a
    scope too large for its solver, for a selector that the surrogate does not serve, for an empty reference period,
    and for long titles where they are an error.
    """
    from pipeline.preflight.config_checks import check_scope
    from pipeline.stages.effort_candidates import asked_candidates, require_candidates

    require_samples(data, selections, key)
    if "effort" in stages and config.effort.candidates != "all":
        share = config.effort.candidates
        require_candidates(share, asked_candidates(share, train_count(data)) > 0)
    if "influence" in stages and config.influence.solver == "exact":
        # Its scope may hold the items, whose number was not known before.
        items = int(data.read_json("statistics.json")["items"]["all"])
        check_scope(config, "influence.scope", config.influence.scope, ("exact",), items)
    for section in {(s.method, s.influence, s.reference, s.reference_users): s for s in selections}.values():
        _check_selection(config, run, data, section)
    if LLM_STAGES & set(stages):
        from pipeline.stages.prompt_titles import announce_titles

        announce_titles(config, run, data)


def _check_selection(config: Config, run: Storage, data: Storage, section: SelectConfig) -> None:
    """What a selector reads beside scores is there: the surrogate's features, the samples that it is aimed at."""
    from pipeline.preflight.config_checks import require_features
    from pipeline.stages.validation_half import needs_reference

    require_features(config, section, data)
    if needs_reference(section):
        from pipeline.stages.reference_period import reference_period

        chosen = config.model_copy(update={"select": section})
        reference_period(StageContext(chosen, run, run, {"ingest": data}, SilentProgress()))


def require_samples(data: Storage, selections: Sequence[SelectConfig], key: str) -> None:
    """Raise `UserError` when a selection asks for more samples than were made of the log."""
    sizes = [section.size for section in selections if section.method != FULL]
    if not sizes:
        return
    try:
        asked_size(max(sizes), train_count(data))
    except TooFewSamplesError as error:
        raise UserError(f"{key}: {error}.", f"Lower {key}, or take more samples by samples.per_user.") from error
