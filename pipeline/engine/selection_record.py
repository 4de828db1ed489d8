"""The content of selection.json."""

from __future__ import annotations

from typing import TypedDict, cast

from cluster.storage import Storage

#: The file in a coreset's folder that holds a `SelectionReport`.
SELECTION_FILE = "selection.json"


class StratumRow(TypedDict):
    """A stratum of the scores: its interval, the samples in it, and those that were picked."""

    index: int
    low: float
    high: float
    samples: int
    picks: int


class NormaliseReport(TypedDict):
    """How the scores were normalised."""

    method: str


class HardPruneReport(TypedDict):
    """What the hard prune dropped; `cut_off` is None if it dropped nothing."""

    share: float
    dropped: int
    cut_off: float | None


#: The report of `scoring.selection.Selection`, and what stage select adds. Some keys are written by some methods only,
#: and a user's own selector may write others.
SelectionReport = TypedDict(
    "SelectionReport",
    {
        "method": str,
        "samples": int,
        "usable": int,
        "not_ok": int,
        "nonfinite": int,
        "size": float,
        "budget": int,
        "chosen": int,
        "seed": int,
        "sees_validation": bool,
        "reference": str | float,
        "reference_users": str,
        "sampling": str,
        "normalise": NormaliseReport | None,
        "lambda": float,
        "hard_prune": HardPruneReport | None,
        "strata": list[StratumRow],
        "warnings": list[str],
    },
    total=False,
)


def read_selection(folder: Storage) -> SelectionReport:
    """Read the `selection.json` of a coreset's folder. Files of earlier versions may lack some of the keys."""
    return cast(SelectionReport, folder.read_json(SELECTION_FILE))
