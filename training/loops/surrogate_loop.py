"""What each rank does to train the surrogate: data-parallel epochs, validation, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cluster.errors import UserError
from cluster.progress import Progress
from cluster.shards import peak_memory
from cluster.storage import Storage
from scoring.surrogate import build_surrogate
from training.loops.checkpoint import latest_checkpoint, save_checkpoint, save_tensors
from training.loops.launch import AgreedError, whereabouts
from training.loops.schedule import Patience
from training.loops.surrogate_data import item_counts, train_windows, valid_users
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.surrogate_step import SurrogateStepper
from training.loops.surrogate_validation import ranking_metrics

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class SurrogateJob:
    """What the driver hands to every rank; `folder` receives the checkpoints."""

    spec: SurrogateSpec
    data: Storage
    folder: Storage
    stamp: str


@dataclass
class SurrogateHistory:
    """What has happened so far: the JSON side of a checkpoint."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0


class SurrogateTrainer:
    """The model, its data and the history of one rank."""

    def __init__(self, job: SurrogateJob) -> None:
        self.job, self.spec = job, job.spec
        self.device = ray.train.torch.get_device()
        counts = item_counts(job.data)
        self.model = build_surrogate(job.spec.name, len(counts), job.spec.network, torch.from_numpy(counts))
        try:
            self.windows = train_windows(job.data, job.spec.max_history)
            self.users = valid_users(job.data, job.spec)
        except UserError as error:
            # All ranks read the same files.
            raise AgreedError(error.message, error.remedy) from error
        self.history = SurrogateHistory()
        self.best_file: str | None = None
        self.where: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(self.where, whereabouts())
        saved = latest_checkpoint(job.folder, job.stamp)
        if saved is not None:
            self.model.load_state_dict(_below("model", saved.tensors))
            self.history = SurrogateHistory(**saved.state["history"])
            self.best_file = saved.state["best_file"]
        self.parallel: nn.Module = ray.train.torch.prepare_model(
            self.model, parallel_strategy_kwargs={"broadcast_buffers": False}
        )
        self.stepper = SurrogateStepper(
            job.spec, self.parallel, self.windows, self.device, dist.get_rank(), dist.get_world_size()
        )
        self.stepper.steps = self.history.steps
        self.patience = Patience(job.spec.patient_epochs(self.stepper.steps_per_epoch), larger_is_better=True)
        if saved is not None:
            self._restore_moments(saved.tensors)
            self.patience = Patience(**saved.state["patience"])

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return len(self.history.epochs)

    @property
    def finished(self) -> bool:
        return self.epoch >= self.spec.epochs or self.patience.exhausted(self.epoch)

    def run_epoch(self, progress: Progress) -> dict[str, float]:
        """All windows once, then validation; the epoch's row of the history."""
        started = time.perf_counter()
        self.model.train()
        batches = self.stepper.batches(self.epoch)
        total = torch.zeros(1, dtype=torch.float64, device=self.device)
        samples = self.epoch * int(self.windows.targets.sum())
        for rows in batches:
            total += self.stepper.step(rows)
            samples += int(self.windows.targets[rows].sum())
            self.history.steps = self.stepper.steps
            if dist.get_rank() == 0:
                facts: dict[str, float] = {"epoch": self.epoch + 1, "samples": samples}
                if self.patience.best is not None:
                    facts["best NDCG@10"] = max(0.0, self.patience.best)
                progress.update(self.history.steps, len(batches) * self.spec.epochs, **facts)
        dist.all_reduce(total)
        targets = int(self.windows.targets.sum())
        loss = float(total.item()) / targets
        seconds = time.perf_counter() - started
        if not math.isfinite(loss):
            raise AgreedError(f"The surrogate's loss is {loss} in epoch {self.epoch + 1}.", "Lower surrogate.lr.")
        self.model.eval()
        row = {"epoch": self.epoch + 1, "loss": loss, **ranking_metrics(self.model, self.users, self.device)}
        speed = {"seconds": seconds, "samples_per_second": targets / seconds}
        return {**row, **speed, "valid_seconds": time.perf_counter() - started - seconds}

    def end_epoch(self, row: dict[str, float]) -> None:
        """Keep the weights if they are the best so far, and save."""
        self.history.epochs.append(row)
        superseded = None
        first = dist.get_rank() == 0
        if self.patience.improves(_merit(row)):
            superseded, self.best_file = self.best_file, f"best/epoch-{self.epoch:05d}.safetensors"
            if first:
                save_tensors(self.job.folder, self.best_file, self.model.state_dict())
        self.patience = self.patience.after(self.epoch, _merit(row))
        if first:
            self._save()
        if first and superseded is not None:
            self.job.folder.delete(superseded)

    def _save(self) -> None:
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            # What is frozen has no moments.
            for moment in _MOMENTS if parameter in self.stepper.optimizer.state else ():
                tensors[f"{moment}/{name}"] = self.stepper.optimizer.state[parameter][moment]
        state = {
            "stamp": self.job.stamp,
            "history": self.history.__dict__,
            "patience": self.patience.__dict__,
            "best_file": self.best_file,
            "seed": self.spec.seed,
            "workers": self.where,
        }
        save_checkpoint(self.job.folder, self.history.steps, tensors, state)

    def _restore_moments(self, tensors: dict[str, Tensor]) -> None:
        state = {}
        for index, (name, _) in enumerate(self.model.named_parameters()):
            if all(f"{moment}/{name}" in tensors for moment in _MOMENTS):
                moments = {moment: tensors[f"{moment}/{name}"] for moment in _MOMENTS}
                state[index] = {"step": torch.tensor(float(self.history.steps)), **moments}
        groups = self.stepper.optimizer.state_dict()["param_groups"]
        self.stepper.optimizer.load_state_dict({"state": state, "param_groups": groups})


def surrogate_loop(job: SurrogateJob, progress: Progress) -> dict[str, Any]:
    """Train on this rank, from the last checkpoint if there is one; the history and where the best lies."""
    trainer = SurrogateTrainer(job)
    while not trainer.finished:
        row = trainer.run_epoch(progress)
        trainer.end_epoch(row)
        ray.train.report(row)
    return {
        "epochs": trainer.history.epochs,
        "steps": trainer.history.steps,
        "best_epoch": trainer.patience.best_epoch,
        "best_file": trainer.best_file,
        "config": trainer.model.config_dict(),
        "item_count": trainer.model.item_count,
        "train_targets": int(trainer.windows.targets.sum()),
        "valid_users": len(trainer.users.history),
        "workers": trainer.where,
        "peak_memory": peak_memory(),
    }


def _merit(row: Mapping[str, float]) -> float:
    """NDCG@10; while it is 0, so that it tells no epoch from another, the lower train loss is the better."""
    return row["ndcg@10"] or -row["loss"]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
