"""Keeps a tracker out of the run's way: it works in a thread of its own, and its failure ends nothing else."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cluster.masking import masked
from cluster.storage import Storage
from pipeline.tracking.known_trackers import KNOWN
from pipeline.tracking.tracker import Ending, TrackedRun, Tracker

log = logging.getLogger("dealrec.tracking")

#: How long the end of a run waits for a tracker to send what is left.
PATIENCE = 30.0

Work = Callable[[Tracker], None]


class BackgroundTracker:
    """One tracker of a run, opened by the first thing that is asked of it.

    Parameters
    ----------
    name : of the tracker, as in the config.
    tracked : the run; its identity is replaced by the one that the run directory remembers.
    digest : of the configuration. Results of another one belong to another run of the tracker.
    restart : True begins another run of the tracker in any case.
    patience : seconds that `close` waits.

    The file `tracking/NAME.json` of the run directory has the identity and the stages that were recorded.
    """

    def __init__(
        self, name: str, tracked: TrackedRun, digest: str, restart: bool = False, patience: float = PATIENCE
    ) -> None:
        self._name, self._tracked, self._patience = name, tracked, patience
        self._folder = tracked.run.child("tracking")
        self._state = {} if restart else _read_state(self._folder, name, digest)
        self._state["config"] = digest
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._recorded: dict[str, float] = dict(self._state.get("stages", {}))

    def recorded(self, stage: str, finished: float) -> bool:
        """Tell whether this completion of a stage, identified by its time, has been recorded."""
        return self._recorded.get(stage) == finished

    def ask(self, work: Work) -> None:
        """Queue work for the tracker's thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"tracking-{self._name}", daemon=True)
            self._thread.start()
        self._queue.put(work)

    def record(self, stage: str, finished: float, work: Work) -> None:
        """Record a complete stage, and remember it once that has succeeded."""
        self._recorded[stage] = finished

        def recording(tracker: Tracker) -> None:
            work(tracker)
            self._remember(stages={**self._state.get("stages", {}), stage: finished})

        self.ask(recording)

    def close(self, ending: Ending) -> None:
        """Say how the run ended, and wait for what is left to be sent."""
        if self._thread is None:
            return
        self._queue.put(lambda tracker: tracker.close(ending))
        self._queue.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            log.warning("Tracking by %s has not ended after %.0f s; it may be incomplete.", self._name, self._patience)

    def _run(self) -> None:
        try:
            tracker = KNOWN[self._name].open(replace(self._tracked, identity=self._state.get("identity")))
            self._remember(identity=tracker.identity)
            while (work := self._queue.get()) is not None:
                work(tracker)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
            reason = masked((str(error).strip().splitlines() or ["no reason given"])[0])
            log.warning(
                "Tracking by %s failed and is off until the next start (%s: %s). The run goes on.%s",
                self._name,
                type(error).__name__,
                reason,
                self._hint(),
            )

    def _hint(self) -> str:
        identity = self._state.get("identity")
        if identity is None:
            return ""
        name = self._name
        return f" If {name} no longer has its run {identity}, remove tracking/{name}.json from the run directory."

    def _remember(self, **changes: Any) -> None:
        self._state |= changes
        self._folder.write_json(f"{self._name}.json", self._state)


def _read_state(folder: Storage, name: str, digest: str) -> dict[str, Any]:
    if not folder.exists(f"{name}.json"):
        return {}
    state: dict[str, Any] = folder.read_json(f"{name}.json")
    return state if state.get("config") == digest else {}
