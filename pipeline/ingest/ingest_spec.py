"""The specification of an ingest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

SplitName = Literal["auto", "global_time", "leave_one_out", "column"]

#: The roles that a column of the input can play; `data.columns.<role>` names the column.
ROLES = ("user", "item", "timestamp", "position", "rating", "split", "title")

#: The parts of a split, in the order in which they follow one another within a user.
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class MinInteractions:
    """The number of interactions that a user and an item need to stay; 1 keeps all."""

    user: int = 1
    item: int = 1

    def __post_init__(self) -> None:
        if self.user < 1 or self.item < 1:
            raise ValueError("min_interactions must be at least 1")


@dataclass(frozen=True)
class IngestSpec:
    """Where the log is and how it becomes samples.

    Attributes
    ----------
    interactions, items : path, directory, glob or URI; without `items`, titles come from the log.
    columns : role -> column name; a role that is absent or None is recognised by its usual names.
    split : how interactions are divided into train, valid and test; "auto" takes the split that a column or the file
        names give, else global_time.
    join_parts : whether files whose names give a split are read as one log.
    min_rating : interactions with a lower rating are dropped before anything else.
    min_interactions : users and items with fewer interactions are dropped repeatedly until none is left.
    missing_title : what to do about an item of the log that has no title.
    missing_id : what to do about interactions that lack a user or an item id.
    null_values : texts that stand for a missing value; None refuses what looks like one.
    per_user : how many of a user's last train targets become samples, or "all".
    max_history : the number of history items that a sample keeps.
    shards : output files per table; None follows the size of the data.
    """

    interactions: str
    items: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    split: SplitName = "auto"
    join_parts: bool = False
    min_rating: float | None = None
    min_interactions: MinInteractions = MinInteractions()
    missing_title: Literal["error", "drop"] = "error"
    missing_id: Literal["error", "drop"] = "error"
    null_values: Sequence[str] | None = None
    per_user: Literal["all"] | int = 1
    max_history: int = 50
    shards: int | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(ROLES))
        if unknown:
            raise ValueError(f"unknown column roles {unknown}; the roles are {', '.join(ROLES)}")
        if self.max_history < 1 or (self.shards is not None and self.shards < 1):
            raise ValueError("max_history and shards must be at least 1")
        if self.per_user != "all" and self.per_user < 1:
            raise ValueError("per_user must be 'all' or at least 1")
