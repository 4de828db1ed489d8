"""Progress of long work: a protocol for those who do the work, and what shows it to a person."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

log = logging.getLogger("dealrec.progress")


class Progress(Protocol):
    """What a stage reports to while it works."""

    def update(self, done: int, total: int, **facts: Any) -> None:
        """Say that `done` of `total` units are finished, with facts worth showing (loss, rows, ...)."""


class SilentProgress:
    """Progress that nobody watches."""

    def update(self, done: int, total: int, **facts: Any) -> None:
        return None


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
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = interval / 10 if self._terminal else interval
        self._clock = clock
        self._start = clock()
        self._shown = -float("inf")
        self._first_done: int | None = None

    def update(self, done: int, total: int, **facts: Any) -> None:
        if self._first_done is None:
            self._first_done = done
        now = self._clock()
        if done < total and now - self._shown < self._interval:
            return
        self._shown = now
        self._write(self._line(done, total, now - self._start, facts))

    def close(self) -> None:
        """End the rewritten line, so that what follows starts on its own."""
        if self._terminal and self._shown > -float("inf"):
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, done: int, total: int, elapsed: float, facts: dict[str, Any]) -> str:
        parts = [f"{self.name:<10} {done}/{total} {self.unit}"]
        fresh = done - (self._first_done or 0)
        if fresh > 0 and done < total:
            parts.append(f"{format_seconds(elapsed / fresh * (total - done))} left")
        parts += [f"{key} {format_fact(value)}" for key, value in facts.items()]
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
