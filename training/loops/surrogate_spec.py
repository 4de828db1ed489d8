"""Settings of surrogate training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.digest import json_digest
from cluster.errors import UserError
from training.loops.worker_placement import Placement


@dataclass(frozen=True)
class SurrogateSpec:
    """How the surrogate is trained.

    The loss of a step is the mean over all counted targets of its batch, whatever number of workers shares
    it.

    Attributes
    ----------
    name, network : of the surrogate and its own settings (for SASRec: max_history, hidden, dropout, loss,
        ...).
    epochs : at most; lr : after `warmup_steps` steps of linear warm-up, at most a tenth of all; weight_decay :
        decoupled (AdamW).
    batch_tokens, batch_rows : cells (padding included) and windows of a batch, over all workers.
    clip : bound of the gradient's norm, 0 for none.
    patience : epochs without a better validation NDCG@10 before stopping, and of a small log as many as
        `warmup_steps` steps take; 0 never stops early.
    valid_users : how many validation users the best epoch is chosen by; drawn by hash.
    mask_seen : whether items that a user has seen are no candidates when it ranks for validation users.
    seed : of batches, dropout and negatives; the initial weights have one among the network's settings.
    workers : world size; placement : where they run, which changes the result by rounding at most (threads).
    """

    name: str = "sasrec"
    network: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 20
    lr: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 100
    batch_tokens: int = 8192
    batch_rows: int = 512
    clip: float = 1.0
    patience: int = 3
    valid_users: int = 2000
    mask_seen: bool = True
    seed: int = 0
    workers: int = 1
    placement: Placement = field(default_factory=Placement)

    @property
    def max_history(self) -> int:
        return int(self.network.get("max_history", 50))

    def warmup(self, steps_per_epoch: int) -> int:
        """Steps of warm-up: `warmup_steps`, or a tenth of all where a log of a few batches has fewer."""
        return min(self.warmup_steps, self.epochs * steps_per_epoch // 10)

    def patient_epochs(self, steps_per_epoch: int) -> int:
        """Epochs of patience: `patience`, or as many as `warmup_steps` steps take, since a few steps move no metric."""
        return max(self.patience, math.ceil(self.warmup_steps / steps_per_epoch)) if self.patience else 0

    def check(self) -> None:
        """Raises `UserError` naming the key whose value cannot be."""
        for key in ("epochs", "batch_tokens", "batch_rows", "valid_users", "workers"):
            if getattr(self, key) < 1:
                raise UserError(f"surrogate.{key} is {getattr(self, key)}.", "It must be at least 1.")
        if self.lr <= 0:
            raise UserError(f"surrogate.lr is {self.lr}.", "It must be above 0.")

    def stamp(self, *inputs: Any) -> str:
        """Digest of all that decides the result but the world size: checkpoints fit any number of workers."""
        settings = {key: value for key, value in asdict(self).items() if key not in ("workers", "placement")}
        return json_digest({"spec": settings, "inputs": inputs})
