"""The typed parts of a report's data."""

from __future__ import annotations

from typing import TypedDict


class StratumRow(TypedDict):
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


#: The report of `scoring.selection.Selection`, as selection.json holds it. Only some methods write some of the keys.
SelectionReport = TypedDict(
    "SelectionReport",
    {
        "method": str,
        "samples": int,
        "usable": int,
        "not_ok": int,
        "nonfinite": int,
        "budget": int,
        "chosen": int,
        "seed": int,
        "sees_validation": bool,
        "reference": str,
        "sampling": str,
        "normalise": NormaliseReport | None,
        "lambda": float,
        "hard_prune": HardPruneReport | None,
        "strata": list[StratumRow],
        "warnings": list[str],
    },
    total=False,
)


class ShownTitle(TypedDict):
    """A title of a list, and whether it is a target."""

    title: str
    hit: bool


class ShownList(TypedDict):
    """The first titles of a model's list for a user; `rank` is that of the first target, None if unknown."""

    model: str
    rank: float | None
    titles: list[ShownTitle]


class ExampleView(TypedDict):
    """A user as the page shows them: what they chose, and what each model recommends."""

    user: object
    history: list[str]
    generated: str
    targets: list[str]
    lists: list[ShownList]


class StageView(TypedDict):
    """A stage as the page's table shows it."""

    name: str
    time: str
    width: float
    status: str
    idle: bool
