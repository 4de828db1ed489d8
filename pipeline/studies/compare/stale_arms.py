"""Refuse results of another configuration, with remedies that `dealrec compare` offers; it recomputes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.graph import Graph, Stage

#: The number of arms that a message names one by one.
_NAMED = 8


def check_shared(shared: Graph) -> None:
    """Refuse a directory whose shared stages belong to another configuration.

    A comparison recomputes none of them, because the run's own results and all of its arms may depend on them.
    """
    try:
        shared.check(shared.stages)
    except UserError as error:
        raise UserError(
            error.message,
            "Choose another --run-dir, give the config.yaml that this one holds, or recompute what the arms share by "
            f"`dealrec run CONFIG --run-dir {shared.run.uri} --from {_first_stale(shared)} "
            f"--until {shared.stages[-1].name}`.",
        ) from error


def _first_stale(graph: Graph) -> str:
    """Return the name of the first stage whose results belong to another configuration."""
    for stage in graph.stages:
        try:
            graph.check([stage])
        except UserError:
            return stage.name
    raise ValueError("every stage belongs to this configuration")


def check_arms(run: Storage, arms: Sequence[tuple[str, Graph, Sequence[Stage]]]) -> None:
    """Refuse arms that another configuration made; an arm is a name, its graph and its own stages.

    The run's own stages serve as an arm only under this configuration, so a refused arm has its own folder.
    """
    refused: dict[str, UserError] = {}
    for name, graph, own in arms:
        try:
            graph.check(own)
        except UserError as error:
            refused[name] = error
    if not refused:
        return
    names, first = list(refused), next(iter(refused.values()))
    if len(names) == 1:
        remedy = f"Remove {run.child('arms', names[0]).uri} to make that arm again"
    else:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        remedy = f"Remove these arms from {run.child('arms').uri} to make them again: {', '.join(names[:_NAMED])}{more}"
    raise UserError(first.message, f"{remedy}; or choose another --run-dir.") from first
