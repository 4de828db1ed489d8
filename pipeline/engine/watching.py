"""A protocol for those who follow a run's stages from outside, such as experiment trackers."""

from __future__ import annotations

from typing import Protocol

from cluster.progress import Progress, SilentProgress
from cluster.storage import Storage
from pipeline.engine.manifest import Manifest


class StageWatcher(Protocol):
    """A listener that hears when a stage begins and when it is complete. It must not raise."""

    def begun(self, stage: str) -> Progress:
        """Note that a stage begins, and return what receives its progress."""

    def complete(self, stage: str, folder: Storage, manifest: Manifest) -> None:
        """Note that a stage is complete, now or since an earlier run."""


class NoWatcher:
    """Nobody follows the run."""

    def begun(self, stage: str) -> Progress:
        return SilentProgress()

    def complete(self, stage: str, folder: Storage, manifest: Manifest) -> None:
        return None


UNWATCHED = NoWatcher()
