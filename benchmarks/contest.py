"""Timing contenders in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of every repetition, by contender."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> float:
        """Return the median over repetitions of a contender's time divided by the baseline's in the same repetition."""
        pairs = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def in_turn(contenders: Mapping[str, Callable[[], object]], repeats: int, clock: str = "wall") -> Times:
    """Call every contender once without measuring, then all of them in turn, `repeats` times.

    The clock "cpu" counts this process's processor time, which is more informative than wall time on a busy machine.
    """
    now = CLOCKS[clock]
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            started = now()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(now() - started)
    return Times(seconds)


def verdict(what: str, value: float, bar: str, passed: bool) -> str:
    """Return a line with a figure, its bar, and whether the bar is met."""
    return f"{what}: {value:.3f}, bar {bar}: {'met' if passed else 'MISSED'}"
