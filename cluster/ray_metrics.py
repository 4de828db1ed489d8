"""What a run is doing, as metrics of Ray: every node exports them to Prometheus on its metrics port."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

#: Facts of progress that only grow, and the metric each of them feeds.
_COUNTERS = {
    "rows": ("dealrec_samples", "Samples that a stage has scored or written."),
    "samples": ("dealrec_samples", "Samples that a stage has scored or written."),
    "rejected": ("dealrec_rows_rejected", "Rows that got no usable score, or were dropped."),
    "tokens": ("dealrec_tokens", "Tokens that the LLM has read."),
}
#: Seconds over which tokens per second are taken.
_WINDOW = 10.0


class StageMetrics:
    """The metrics of one stage, fed by its progress. Without a connected Ray it does nothing.

    Metrics, each with the tag `stage`: `dealrec_stage` (1 while it runs), `dealrec_units_done` and
    `dealrec_units_total` (shards, steps), `dealrec_samples`, `dealrec_rows_rejected` and `dealrec_tokens` (counters),
    `dealrec_tokens_per_second`.
    """

    def __init__(self, stage: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._tags = {"stage": stage}
        self._clock = clock
        self._seen: dict[str, float] | None = None
        self._window: tuple[float, float] | None = None
        self._gauge("dealrec_stage", "1 while the stage runs.", 1)

    def update(self, done: int, total: int, **facts: Any) -> None:
        """As `Progress.update`: counts are those since the beginning, so that increments are differences."""
        self._gauge("dealrec_units_done", "Shards or steps that are done.", done)
        self._gauge("dealrec_units_total", "Shards or steps in all.", total)
        if self._seen is None:
            # What is there at the first look was counted by an earlier run.
            self._seen = {fact: float(facts[fact]) for fact in _COUNTERS if fact in facts}
        for fact, (name, description) in _COUNTERS.items():
            if fact in facts:
                self._count(self._seen, fact, name, description, float(facts[fact]))
        if "tokens" in facts:
            self._rate(float(facts["tokens"]))

    def close(self) -> None:
        """The stage has ended, however."""
        self._gauge("dealrec_stage", "1 while the stage runs.", 0)

    def _count(self, seen: dict[str, float], fact: str, name: str, description: str, value: float) -> None:
        # A count that falls belongs to another pass of the stage.
        increment = value - min(value, seen.get(fact, 0.0))
        seen[fact] = value
        if increment > 0 and ray.is_initialized():
            _metric(Counter, name, description).inc(increment, tags=self._tags)

    def _rate(self, tokens: float) -> None:
        now = self._clock()
        if self._window is None or tokens < self._window[1]:
            self._window = (now, tokens)
        elif now - self._window[0] >= _WINDOW:
            rate = (tokens - self._window[1]) / (now - self._window[0])
            self._gauge("dealrec_tokens_per_second", "Tokens a second, over ten seconds.", rate)
            self._window = (now, tokens)

    def _gauge(self, name: str, description: str, value: float) -> None:
        if ray.is_initialized():
            _metric(Gauge, name, description).set(value, tags=self._tags)


@cache
def _metric(kind: type[Any], name: str, description: str) -> Any:
    return kind(name, description=description, tag_keys=("stage",))
