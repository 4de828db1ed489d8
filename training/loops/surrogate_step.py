"""One optimizer step of the surrogate: the loss of a batch of windows, shared by any number of workers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scoring.batching import collate_windows, length_buckets
from training.loops.schedule import seed_of, warm_up
from training.loops.surrogate_data import TrainWindows
from training.loops.surrogate_spec import SurrogateSpec


class SurrogateStepper:
    """Takes the steps of a training run on this worker's share of its batches.

    What a step does depends on the seed and the step's number alone, never on what ran before in the process.

    Parameters
    ----------
    model : called with (SequenceBatch, generator); gives the summed loss and the count (see `Surrogate`).
    windows : what is trained on.
    rank, world : this worker's place; with more than one, `model` averages gradients over them.
    """

    def __init__(
        self,
        spec: SurrogateSpec,
        model: nn.Module,
        windows: TrainWindows,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.spec, self.settings, self.model, self.windows, self.device = spec, spec.settings, model, windows, device
        self.rank, self.world = rank, world
        self.steps = 0
        self.steps_per_epoch = len(self.batches(0))
        self.warmup = spec.warmup(self.steps_per_epoch)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay, fused=True
        )

    def batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Return the windows of each step of an epoch (from 0), the same on every rank."""
        lengths = self.windows.items.lengths - 1
        seed = seed_of("batches", self.settings.seed, epoch)
        return length_buckets(lengths, self.settings.batch_tokens, self.spec.batch_rows, seed)

    def step(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Take one optimizer step on this rank's share of a batch. Return the sum of its losses, detached."""
        settings, windows = self.settings, self.windows
        own = rows[self.rank :: self.world]
        own_or_one = own if len(own) else rows[:1]
        batch = collate_windows(windows.items, windows.first, own_or_one, self.device, windows.removed, windows.labels)
        torch.manual_seed(seed_of("dropout", settings.seed, self.steps, self.rank))
        negatives = torch.Generator().manual_seed(seed_of("negatives", settings.seed, self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * warm_up(self.steps, self.warmup)
        total, _ = self.model(batch, negatives)
        total = total * (1.0 if len(own) else 0.0)
        # Gradients are averaged over ranks; the loss is a mean over the targets of the whole batch.
        (total * (self.world / int(windows.targets[rows].sum()))).backward()
        if self.spec.clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return total.detach()
