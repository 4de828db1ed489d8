"""What every tracker does with a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cluster.storage import Storage

#: How a run ended. A failed or stopped one may be continued.
Ending = Literal["finished", "failed", "stopped"]

#: The project, or experiment, where the tracker's own environment variable names no other.
PROJECT = "dealrec"


@dataclass(frozen=True)
class Figures:
    """Named values at one step."""

    values: Mapping[str, float]
    step: int = 0


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is opened for.

    Attributes
    ----------
    name : shown to people; the last part of the run directory.
    params : the configuration, flattened and without credentials.
    run : the run directory.
    identity : the tracker's id of the run to continue; None begins a new one.
    """

    name: str
    params: Mapping[str, str]
    run: Storage
    identity: str | None


class Tracker(Protocol):
    """One run at one tracker. Its methods are called from one thread and may raise anything."""

    @property
    def identity(self) -> str:
        """The tracker's id of this run, by which it can be continued."""

    def log(self, group: str, rows: Sequence[Figures]) -> None:
        """Record every value as `GROUP/NAME`; each group counts its own steps."""

    def keep(self, file: Path) -> None:
        """Keep a file with the run, where the tracker keeps files."""

    def close(self, ending: Ending) -> None:
        """Send what is left and say how the run ended."""


OpenTracker = Callable[[TrackedRun], Tracker]
