"""What a run is doing, as Ray metrics, which every node exports to Prometheus on its metrics port."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import ray
from ray.util.metrics import Counter, Gauge

from cluster.progress import Fact

#: Cumulative facts of progress, and the metric that each feeds.
_COUNTERS = {
    "rows": ("dealrec_samples", "Samples that a stage has scored or written."),
    "samples": ("dealrec_samples", "Samples that a stage has scored or written."),
    "rejected": ("dealrec_rows_rejected", "Rows that were dropped or got no usable score."),
    "tokens": ("dealrec_tokens", "Tokens that the LLM has read."),
}
#: Seconds over which tokens per second are averaged.
_WINDOW = 10.0


class StageMetrics:
    """The metrics of one stage, fed by its progress. Does nothing if Ray is not connected.

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

    def update(self, done: int, total: int, **facts: Fact) -> None:
        """Implement `Progress.update`. Facts are cumulative, so counters get their differences."""
        self._gauge("dealrec_units_done", "Shards or steps that are done.", done)
        self._gauge("dealrec_units_total", "Shards or steps in all.", total)
        if self._seen is None:
            # An earlier run already counted what the first update reports.
            self._seen = {fact: float(facts[fact]) for fact in _COUNTERS if fact in facts}
        for fact, (name, description) in _COUNTERS.items():
            if fact in facts:
                self._count(self._seen, fact, name, description, float(facts[fact]))
        if "tokens" in facts:
            self._rate(float(facts["tokens"]))

    def close(self) -> None:
        """Record that the stage has ended, successfully or not."""
        self._gauge("dealrec_stage", "1 while the stage runs.", 0)

    def _count(self, seen: dict[str, float], fact: str, name: str, description: str, value: float) -> None:
        # A falling count starts another pass of the stage.
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
def _metric(kind: type[Counter] | type[Gauge], name: str, description: str) -> Counter | Gauge:
    return kind(name, description=description, tag_keys=("stage",))
