"""A complete run on the small log with a tiny LLM, shared by the tests that start from finished stages."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.storage import Storage


@dataclass(frozen=True)
class SmallRun:
    """The run, and what it takes to make another of it.

    Attributes
    ----------
    folder : holds `config.yaml`, the log `log.parquet`, the LLM `llm` and the run directory `run`.
    """

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def run(self) -> Storage:
        return Storage.at(self.folder / "run")

    def begin(self, target: Path, *complete: str) -> Path:
        """A run directory in which the stages of these folders are done already; returns it."""
        for name in complete:
            shutil.copytree(self.folder / "run" / name, target / name)
        return target
