"""Trackio: a local database, or the Space or server that its environment variables name."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.tracking.tracker import PROJECT, Ending, Figures, TrackedRun


class TrackioTracker:
    """A run of Trackio in the project TRACKIO_PROJECT, `dealrec` by default."""

    def __init__(self, tracked: TrackedRun) -> None:
        import trackio

        # Trackio finds a run by its name, so the name is the identity and must be unique.
        self._name = tracked.identity or f"{tracked.name}-{secrets.token_hex(3)}"
        # It prints to standard output, where results and JSON go.
        with contextlib.redirect_stdout(sys.stderr):
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
                name=self._name,
                config=dict(tracked.params),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    @property
    def identity(self) -> str:
        return self._name

    def log(self, group: str, rows: Sequence[Figures]) -> None:
        for row in rows:
            self._run.log({f"{group}/{name}": value for name, value in row.values.items()}, step=row.step)

    def keep(self, file: Path) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._run.log_artifact(str(file), name=file.stem, type="result")

    def close(self, ending: Ending) -> None:
        """Finish the run. Trackio does not record how it ended."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
