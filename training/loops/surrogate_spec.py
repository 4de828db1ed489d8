"""One training of the surrogate: its settings, those of the samples that it needs, and where it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.digest import json_digest
from training.loops.surrogate_config import NETWORK_KEYS, SurrogateConfig
from training.loops.worker_placement import Placement

#: Settings that the stamp holds as part of the network, or not at all: the world size changes no result.
_OTHERWISE = (NETWORK_KEYS - {"seed"}) | {"model", "settings", "workers"}


@dataclass(frozen=True)
class SurrogateSpec:
    """How the surrogate is trained.

    The loss of a step is the mean over all counted targets of its batch, whatever number of workers shares
    it.

    Attributes
    ----------
    settings : the network, the optimizer and the schedule.
    sample_history : items of history in a sample; the network reads as many unless its settings say otherwise.
    mask_seen : whether validation ranks leave out the items that a user has seen.
    batch_rows : the most windows in a batch, over all workers.
    clip : the largest norm of the gradient; 0 for no limit.
    placement : where the workers run, which changes the result by rounding at most (threads).
    """

    settings: SurrogateConfig = field(default_factory=SurrogateConfig)
    sample_history: int = 50
    mask_seen: bool = True
    batch_rows: int = 512
    clip: float = 1.0
    placement: Placement = field(default_factory=Placement)

    @property
    def network(self) -> dict[str, Any]:
        """Return the arguments of the surrogate's builder, except the number of items."""
        return self.settings.network(self.sample_history)

    @property
    def max_history(self) -> int:
        """The number of history items in windows and validation rows."""
        return int(self.network["max_history"])

    def warmup(self, steps_per_epoch: int) -> int:
        """Return the steps of warm-up: `warmup_steps`, or a tenth of all where a log of a few batches has fewer."""
        return min(self.settings.warmup_steps, self.settings.epochs * steps_per_epoch // 10)

    def patient_epochs(self, steps_per_epoch: int) -> int:
        """Return the epochs of patience.

        These are `patience`, or as many as `warmup_steps` steps take, since a few steps move no metric.
        """
        settings = self.settings
        return max(settings.patience, math.ceil(settings.warmup_steps / steps_per_epoch)) if settings.patience else 0

    def stamp(self, inputs: Sequence[tuple[str, int]]) -> str:
        """Digest everything that decides the result. The world size does not: checkpoints fit any number of workers."""
        settings = {
            **self.settings.model_dump(exclude=set(_OTHERWISE)),
            "name": self.settings.model,
            "network": self.network,
            "mask_seen": self.mask_seen,
            "batch_rows": self.batch_rows,
            "clip": self.clip,
        }
        return json_digest({"spec": settings, "inputs": [inputs]})
