"""The surrogate's training on each rank: data-parallel epochs, each followed by validation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

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
from training.loops.checkpoint import latest_checkpoint
from training.loops.epoch_trainer import EpochTrainer
from training.loops.launch import AgreedError
from training.loops.schedule import Patience
from training.loops.surrogate_data import item_counts, train_windows, valid_users
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.surrogate_step import SurrogateStepper
from training.loops.surrogate_validation import ranking_metrics
from training.loops.training_records import SurrogateOutcome

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
    """The training so far: the JSON side of a checkpoint."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0


class SurrogateTrainer(EpochTrainer[SurrogateHistory]):
    """The model, its data and the history of one rank."""

    def __init__(self, job: SurrogateJob) -> None:
        spec = job.spec
        super().__init__(job.folder, job.stamp, spec.settings.epochs, spec.settings.seed)
        self.spec = spec
        self.device = ray.train.torch.get_device()
        counts = item_counts(job.data)
        self.model = build_surrogate(spec.settings.model, len(counts), spec.network, torch.from_numpy(counts))
        try:
            self.windows = train_windows(job.data, spec.max_history)
            self.users = valid_users(job.data, spec)
        except UserError as error:
            # All ranks read the same files.
            raise AgreedError(error.message, error.remedy) from error
        saved = latest_checkpoint(job.folder, job.stamp)
        if saved is not None:
            self.model.load_state_dict(_below("model", saved.tensors))
        self.parallel: nn.Module = ray.train.torch.prepare_model(
            self.model, parallel_strategy_kwargs={"broadcast_buffers": False}
        )
        self.stepper = SurrogateStepper(
            spec, self.parallel, self.windows, self.device, dist.get_rank(), dist.get_world_size()
        )
        patience = Patience(spec.patient_epochs(self.stepper.steps_per_epoch), larger_is_better=True)
        self.resume(saved, SurrogateHistory, patience)
        self.stepper.steps = self.history.steps
        if saved is not None:
            self._restore_moments(saved.tensors)

    @property
    def epoch(self) -> int:
        return len(self.history.epochs)

    @property
    def step(self) -> int:
        return self.history.steps

    def run_epoch(self, progress: Progress) -> tuple[float, dict[str, float]]:
        """Train on all windows once, then validate. Return NDCG@10, and the epoch's row of the history."""
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
                progress.update(self.history.steps, len(batches) * self.spec.settings.epochs, **facts)
        dist.all_reduce(total)
        targets = int(self.windows.targets.sum())
        loss = float(total.item()) / targets
        seconds = time.perf_counter() - started
        if not math.isfinite(loss):
            raise AgreedError(f"The surrogate's loss is {loss} in epoch {self.epoch + 1}.", "Lower surrogate.lr.")
        self.model.eval()
        row = {"epoch": self.epoch + 1, "loss": loss, **ranking_metrics(self.model, self.users, self.device)}
        row |= {"seconds": seconds, "samples_per_second": targets / seconds}
        row["valid_seconds"] = time.perf_counter() - started - seconds
        self.history.epochs.append(row)
        return _merit(row), row

    def weights(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            # Frozen parameters have no moments.
            for moment in _MOMENTS if parameter in self.stepper.optimizer.state else ():
                tensors[f"{moment}/{name}"] = self.stepper.optimizer.state[parameter][moment]
        return tensors, {}

    def _restore_moments(self, tensors: dict[str, Tensor]) -> None:
        state = {}
        for index, (name, _) in enumerate(self.model.named_parameters()):
            if all(f"{moment}/{name}" in tensors for moment in _MOMENTS):
                moments = {moment: tensors[f"{moment}/{name}"] for moment in _MOMENTS}
                state[index] = {"step": torch.tensor(float(self.history.steps)), **moments}
        groups = self.stepper.optimizer.state_dict()["param_groups"]
        self.stepper.optimizer.load_state_dict({"state": state, "param_groups": groups})


def surrogate_loop(job: SurrogateJob, progress: Progress) -> SurrogateOutcome:
    """Train on this rank, from the last checkpoint if there is one."""
    trainer = SurrogateTrainer(job)
    trainer.train(progress)
    return {
        "epochs": trainer.history.epochs,
        "steps": trainer.history.steps,
        "best_epoch": trainer.patience.best_epoch,
        "best_file": trainer.best_file,
        "config": dict(trainer.model.config_dict()),
        "item_count": trainer.model.item_count,
        "train_targets": int(trainer.windows.targets.sum()),
        "valid_users": len(trainer.users.history),
        "workers": trainer.where,
        "peak_memory": peak_memory(),
    }


def _merit(row: Mapping[str, float]) -> float:
    """Return NDCG@10; while it is 0 and tells no epoch from another, a lower training loss is better."""
    return row["ndcg@10"] or -row["loss"]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
