"""Follows a run's stages and tells the trackers that the config names."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.digest import json_digest
from cluster.masking import masked
from cluster.progress import Progress
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.manifest import Manifest
from pipeline.engine.selection_record import SELECTION_FILE
from pipeline.engine.watching import UNWATCHED, StageWatcher
from pipeline.tracking.background_tracker import PATIENCE, BackgroundTracker
from pipeline.tracking.figures import config_params, progress_figures, stage_figures
from pipeline.tracking.tracker import Ending, Figures, TrackedRun, Tracker

#: Seconds between two reports of a stage's progress.
_INTERVAL = 5.0
#: Files that are kept with the tracker's run, from the stage's folder or the run's.
_KEPT = {"select": SELECTION_FILE, "report": "report.html"}


@contextmanager
def tracked_run(
    config: Config, run: Storage, restart: bool = False, patience: float = PATIENCE
) -> Iterator[StageWatcher]:
    """Yield a watcher of the run's stages; after the block the trackers learn how it ended.

    Parameters
    ----------
    restart : True begins another run at each tracker, for results that replace those recorded so far. Otherwise the
        run directory remembers the one to continue, unless the config was another one.
    patience : the seconds that each tracker has to finish after the block.
    """
    if not config.track:
        yield UNWATCHED
        return
    watcher = RunTracking(config, run, restart, patience)
    ending: Ending = "failed"
    try:
        yield watcher
        ending = "finished"
    except KeyboardInterrupt:
        ending = "stopped"
        raise
    finally:
        watcher.close(ending)


class RunTracking:
    """Tells every tracker what happens in a run; see `StageWatcher`."""

    def __init__(self, config: Config, run: Storage, restart: bool, patience: float) -> None:
        self._run = run
        params = config_params(config)
        # Where a run happens and who follows it does not make it another one.
        decisive = {key: value for key, value in params.items() if not key.startswith(("cluster.", "track"))}
        name = masked(run.uri).partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
        tracked = TrackedRun(name, params, run, None)
        digest = json_digest(decisive)
        self._trackers = [BackgroundTracker(name, tracked, digest, restart, patience) for name in config.track]

    def begun(self, stage: str) -> Progress:
        return StageProgress(stage, self._trackers)

    def complete(self, stage: str, folder: Storage, manifest: Manifest) -> None:
        # Files are read where trackers work: one that cannot be read must not end the run either.
        def work(tracker: Tracker) -> None:
            tracker.log(stage, stage_figures(stage, folder, manifest))
            if stage in _KEPT:
                _keep(tracker, self._run if stage == "report" else folder, _KEPT[stage])

        for tracker in self._trackers:
            if not tracker.recorded(stage, manifest.finished):
                tracker.record(stage, manifest.finished, work)

    def close(self, ending: Ending) -> None:
        for tracker in self._trackers:
            tracker.close(ending)


def _keep(tracker: Tracker, source: Storage, name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, name)
        file.write_bytes(source.read_bytes(name))
        tracker.keep(file)


class StageProgress:
    """Sends the progress of one stage to trackers, every few seconds and at its end."""

    def __init__(
        self, stage: str, trackers: Sequence[BackgroundTracker], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._group, self._trackers, self._clock = f"progress/{stage}", trackers, clock
        self._sent = -float("inf")

    def update(self, done: int, total: int, **facts: Any) -> None:
        """Record progress like `Progress.update`; the step is the number of finished units."""
        now = self._clock()
        if done < total and now - self._sent < _INTERVAL:
            return
        self._sent = now
        values = {**progress_figures(facts), "done": float(done), "total": float(total)}
        for tracker in self._trackers:
            tracker.ask(lambda to: to.log(self._group, [Figures(values, done)]))
