"""The run's event log: `events.jsonl`, one event per line."""

from __future__ import annotations

import json
import time

from cluster.storage import Storage

EVENTS = "events.jsonl"


class EventLog:
    """Appends events to the run's file.

    Object stores cannot append, so the whole file is rewritten. A run has tens of events, not millions.
    """

    def __init__(self, run: Storage) -> None:
        self._run = run

    def add(self, event: str, **facts: object) -> None:
        """Record an event with its time, in seconds since the epoch."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, ensure_ascii=False)
        earlier = self._run.read_text(EVENTS) if self._run.exists(EVENTS) else ""
        self._run.write_text(EVENTS, earlier + line + "\n")
