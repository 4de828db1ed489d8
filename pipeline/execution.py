"""Executes stages, the log first: a coreset larger than the log is refused before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.config import SelectConfig
from pipeline.events import EventLog
from pipeline.graph import Graph, Stage
from pipeline.tables import train_count
from scoring.errors import TooFewSamplesError
from scoring.selection import FULL
from scoring.selectors.base import asked_size


def execute(
    graph: Graph, stages: Sequence[Stage], selections: Sequence[SelectConfig], key: str = "select.size"
) -> None:
    """Bring `stages` up to date, which `selections` are to be made from.

    Parameters
    ----------
    key : where the user has given the sizes.

    Raises `UserError` when the log has fewer samples than a selection asks for, and whatever a stage does.
    """
    events = EventLog(graph.run)
    ingest = [stage for stage in stages if stage.name == "ingest"]
    graph.execute(ingest, events)
    if ingest:
        require_samples(graph.folder(ingest[0]), selections, key)
    graph.execute([stage for stage in stages if stage.name != "ingest"], events)


def require_samples(data: Storage, selections: Sequence[SelectConfig], key: str) -> None:
    """Raise `UserError` when a selection asks for more samples than were made of the log."""
    sizes = [section.size for section in selections if section.method != FULL]
    if not sizes:
        return
    try:
        asked_size(max(sizes), train_count(data))
    except TooFewSamplesError as error:
        raise UserError(f"{key}: {error}.", f"Lower {key}, or take more samples by samples.per_user.") from error
