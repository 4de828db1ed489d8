"""Progress of long work: a protocol for those who do the work, and what shows it to a person."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from cluster.screen import current_screen

log = logging.getLogger("dealrec.progress")


#: Facts that count since the beginning, and are shown as a rate too.
RATES = ("rows", "samples", "tokens")


class Progress(Protocol):
    """What a stage reports to while it works."""

    def update(self, done: int, total: int, **facts: Any) -> None:
        """Say that `done` of `total` units are finished, with facts worth showing (loss, rows, ...)."""


class SilentProgress:
    """Progress that nobody watches."""

    def update(self, done: int, total: int, **facts: Any) -> None:
        return None


class SeveralProgresses:
    """Tells several who watch."""

    def __init__(self, *watchers: Progress) -> None:
        self._watchers = watchers

    def update(self, done: int, total: int, **facts: Any) -> None:
        for watcher in self._watchers:
            watcher.update(done, total, **facts)


class LineProgress:
    """One line in a terminal, rewritten; plain lines, at most one every few seconds, in a job's log.

    Parameters
    ----------
    name : the stage.
    unit : what is counted, in the plural.
    stream : where to write; a terminal is recognised.
    interval : seconds between two lines of a log; a terminal is refreshed ten times as often.
    """

    def __init__(
        self,
        name: str,
        unit: str = "shards",
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.unit = unit
        self._stream = stream or current_screen()
        self._terminal = self._stream.isatty()
        self._interval = interval / 10 if self._terminal else interval
        self._clock = clock
        self._done = self._total = 0
        self._shown = -float("inf")
        self._first: tuple[float, int, dict[str, Any]] | None = None

    def update(self, done: int, total: int, **facts: Any) -> None:
        now = self._clock()
        # Less done, or another total, is another pass of the stage, with a pace of its own.
        if self._first is None or done < self._done or total != self._total:
            self._first, self._total = (now, done, facts), total
        self._done = done
        if done < total and now - self._shown < self._interval:
            return
        self._shown = now
        self._write(self._line(done, total, now, facts))

    def close(self) -> None:
        """End the rewritten line, so that what follows starts on its own."""
        if self._terminal and self._shown > -float("inf"):
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, done: int, total: int, now: float, facts: dict[str, Any]) -> str:
        assert self._first is not None
        began, first_done, first_facts = self._first
        parts = [f"{self.name:<10} {done}/{total} {self.unit}"]
        elapsed, fresh = now - began, done - first_done
        if fresh > 0 and elapsed > 0 and done < total:
            parts.append(f"{format_seconds(elapsed / fresh * (total - done))} left")
        for key, value in facts.items():
            parts.append(f"{key} {format_fact(value)}")
            gained = value - first_facts.get(key, 0) if key in RATES else 0
            if gained > 0 and elapsed > 0:
                parts.append(f"{format_fact(round(gained / elapsed, 1))} {key}/s")
        return "  ".join(parts)

    def _write(self, line: str) -> None:
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{line[:200]}")
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def format_seconds(seconds: float) -> str:
    """Seconds as a person says them: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_fact(value: Any) -> str:
    """A number with as many digits as a glance needs."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
