"""The typed parts of a report's data."""

from __future__ import annotations

from typing import TypedDict


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
