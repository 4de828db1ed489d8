"""Learning rates over time, when to stop, and seeds that depend on the place in training alone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass


def warm_up(step: int, warmup_steps: int) -> float:
    """Return the factor on the learning rate of step `step` (from 0): linear to 1 over the first steps, then 1."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0


def warm_up_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the factor on the learning rate of step `step` (from 0): linear warm-up, then half a cosine down to 0.

    The schedule of SGDR without restarts (Loshchilov and Hutter, ICLR 2017).
    """
    if step < warmup_steps:
        return warm_up(step, warmup_steps)
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def seed_of(*place: int | str) -> int:
    """Return a 63-bit seed of a place in training, such as (seed, epoch, step, rank); places do not collide."""
    text = "/".join(str(part) for part in place).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class Patience:
    """Early stopping: the best value so far, where it was, and whether to go on.

    Attributes
    ----------
    limit : epochs without improvement before stopping; 0 never stops.
    larger_is_better : True for a ranking metric, False for a loss.
    """

    limit: int
    larger_is_better: bool
    best: float | None = None
    best_epoch: int = 0

    def improves(self, value: float) -> bool:
        if self.best is None:
            return True
        return value > self.best if self.larger_is_better else value < self.best

    def after(self, epoch: int, value: float) -> Patience:
        """Return the state after an epoch's value."""
        if not self.improves(value):
            return self
        return Patience(self.limit, self.larger_is_better, value, epoch)

    def exhausted(self, epoch: int) -> bool:
        return self.limit > 0 and self.best is not None and epoch - self.best_epoch >= self.limit
