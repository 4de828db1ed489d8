"""Progress of long work: the protocol for reporting it, and the displays that show it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol, TextIO, TypeAlias

from cluster.screen import current_screen

log = logging.getLogger("dealrec.progress")
#: A fact that progress shows, such as a loss or a number of rows.
Fact: TypeAlias = float | str
#: Cumulative facts, which are also shown as a rate.
RATES = ("rows", "samples", "tokens")


class Progress(Protocol):
    """What a stage reports its progress to."""

    def update(self, done: int, total: int, **facts: Fact) -> None:
        """Report that `done` of `total` units are finished, with facts worth showing (loss, rows, ...)."""


class SilentProgress:
    """Discards all progress."""

    def update(self, done: int, total: int, **facts: Fact) -> None:
        return None


class ProgressGroup:
    """Passes progress on to several watchers."""

    def __init__(self, *watchers: Progress) -> None:
        self._watchers = watchers

    def update(self, done: int, total: int, **facts: Fact) -> None:
        for watcher in self._watchers:
            watcher.update(done, total, **facts)


class LineProgress:
    """Shows progress as one line: rewritten in place in a terminal, or appended every few seconds to a job's log.

    Parameters
    ----------
    name : name of the stage.
    unit : what is counted, in the plural.
    stream : where to write; terminals are detected.
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
        self._first: tuple[float, int, dict[str, Fact]] | None = None

    def update(self, done: int, total: int, **facts: Fact) -> None:
        now = self._clock()
        # A lower count or another total starts another pass of the stage, whose pace is measured separately.
        if self._first is None or done < self._done or total != self._total:
            self._first, self._total = (now, done, facts), total
        self._done = done
        if done < total and now - self._shown < self._interval:
            return
        self._shown = now
        self._write(self._line(done, total, now, facts))

    def close(self) -> None:
        """End the rewritten line, so that later output starts on a line of its own."""
        if self._terminal and self._shown > -float("inf"):
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, done: int, total: int, now: float, facts: dict[str, Fact]) -> str:
        assert self._first is not None
        began, first_done, first_facts = self._first
        parts = [f"{self.name:<10} {done}/{total} {self.unit}"]
        elapsed, fresh = now - began, done - first_done
        if fresh > 0 and elapsed > 0 and done < total:
            parts.append(f"{format_seconds(elapsed / fresh * (total - done))} left")
        for key, value in facts.items():
            parts.append(f"{key} {format_fact(value)}")
            gained = float(value) - float(first_facts.get(key, 0)) if key in RATES else 0
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
    """Format seconds for people: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_fact(value: object) -> str:
    """Format a fact compactly: floats to four significant digits, integers with thousands separators."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
