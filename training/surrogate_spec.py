"""Settings of surrogate training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.digest import json_digest
from cluster.errors import UserError
from training.placement import Placement


@dataclass(frozen=True)
class SurrogateSpec:
    """How the surrogate is trained.

    The loss of a step is the mean over all counted targets of its batch, whatever number of workers shares
    it.

    Attributes
    ----------
    name, network : of the surrogate and its own settings (for SASRec: max_history, hidden, dropout, loss,
        ...).
    epochs : at most; lr : after `warmup_steps` steps of linear warm-up; weight_decay : decoupled (AdamW).
    batch_tokens, batch_rows : cells (padding included) and windows of a batch, over all workers.
    clip : bound of the gradient's norm, 0 for none.
    patience : epochs without a better validation NDCG@10 before stopping; 0 never stops early.
    valid_users : how many validation users the best epoch is chosen by; drawn by hash.
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
    seed: int = 0
    workers: int = 1
    placement: Placement = field(default_factory=Placement)

    @property
    def max_history(self) -> int:
        return int(self.network.get("max_history", 50))

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
