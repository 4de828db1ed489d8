"""What each rank does to fine-tune: a plain loop over the optimizer steps on a DeepSpeed engine."""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch
import torch.distributed as dist
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from cluster.progress import Progress
from cluster.shards import peak_memory
from cluster.storage import Storage
from training.llm.memory import lack_of_memory_as
from training.loops.checkpoint import latest_checkpoint, save_checkpoint, save_tensors
from training.loops.examples import Encoded
from training.loops.finetune_batches import global_batches, steps_per_epoch
from training.loops.finetune_data import Examples, sample_losses
from training.loops.finetune_engine import (
    build_engine,
    evidence,
    load_adapted,
    loss_scale,
    prepare_process,
    trainable_parameters,
)
from training.loops.finetune_spec import FinetuneSpec
from training.loops.finetune_state import adapter_tensors, capture, restore_optimizer, restore_parameters
from training.loops.launch import AgreedError, whereabouts
from training.loops.schedule import Patience, seed_of, warm_up_cosine


@dataclass(frozen=True)
class FinetuneJob:
    """What the driver hands to every rank.

    `folder` holds the encoded examples (`train.parquet`, `valid.parquet`) and receives the checkpoints.
    """

    spec: FinetuneSpec
    folder: Storage
    stamp: str
    pad_id: int


@dataclass
class FinetuneHistory:
    """What has happened so far: the JSON side of a checkpoint.

    `epoch` and `index` say which step comes next; `valid` starts with the untuned model at step 0.
    """

    epoch: int = 0
    index: int = 0
    train: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    valid: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    valid_seconds: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.train)


class Tuner:
    """The engine, the examples and the history of one rank."""

    def __init__(self, job: FinetuneJob) -> None:
        self.job = job
        self.spec = job.spec
        prepare_process(job.spec)
        model = load_adapted(job.spec)
        saved = latest_checkpoint(job.folder, job.stamp)
        if saved is not None:
            restore_parameters(model, saved.tensors)
        self.engine = build_engine(job.spec, model)
        self.train_set = self._examples("train")
        self.valid_set = self._examples("valid")
        self.steps_per_epoch = steps_per_epoch(len(self.train_set), self.spec.global_batch)
        self.total_steps = self.steps_per_epoch * self.spec.epochs
        self.history = FinetuneHistory()
        self.patience = Patience(self.spec.patience, larger_is_better=False)
        self.best_file: str | None = None
        self.where: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(self.where, whereabouts())
        if saved is not None:
            idle = self.train_set.idle()
            restore_optimizer(
                self.engine,
                saved.tensors,
                saved.state["optimizer"],
                lambda: sample_losses(self.engine, idle).sum(),
            )
            self.history = FinetuneHistory(**saved.state["history"])
            self.patience = Patience(**saved.state["patience"])
            self.best_file = saved.state["best_file"]

    @property
    def finished(self) -> bool:
        return self.history.epoch >= self.spec.epochs or self.patience.exhausted(self.history.epoch)

    def train_step(self, rows: np.ndarray) -> float:
        """One optimizer step on a global batch; its loss, the mean over the samples."""
        history, spec = self.history, self.spec
        started = time.perf_counter()
        torch.manual_seed(seed_of("dropout", spec.seed, history.epoch, history.index, dist.get_rank()))
        rate = spec.lr * warm_up_cosine(history.steps, math.ceil(spec.warmup * self.total_steps), self.total_steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        self.engine.train()
        total = torch.zeros(1, dtype=torch.float64, device=self.engine.device)
        batches = self.train_set.micro_batches(rows)
        for place, (batch, count) in enumerate(batches):
            self.engine.set_gradient_accumulation_boundary(place == len(batches) - 1)
            losses = sample_losses(self.engine, batch)
            # The engine averages gradients over ranks; the objective is a mean over the global batch.
            share = dist.get_world_size() / len(rows) if count else 0.0
            self.engine.backward(losses.sum() * share * loss_scale(self.engine), scale_wrt_gas=False)
            total += losses.detach().sum() * (1 if count else 0)
        self.engine.step()
        loss = _total(total) / len(rows)
        if not math.isfinite(loss):
            raise AgreedError(
                f"The training loss is {loss} at step {history.steps + 1}.",
                "Lower finetune.lr, or set llm.dtype to bfloat16 or float32.",
            )
        history.train.append(loss)
        history.learning_rate.append(rate)
        history.index += 1
        history.tokens += int(self.train_set.lengths[rows].sum())
        history.seconds += time.perf_counter() - started
        return loss

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss over the validation examples; records it."""
        started = time.perf_counter()
        self.engine.eval()
        total = torch.zeros(1, dtype=torch.float64, device=self.engine.device)
        for batch, count in self.valid_set.micro_batches(np.arange(len(self.valid_set))):
            total += sample_losses(self.engine, batch).sum() * (1 if count else 0)
        loss = _total(total) / len(self.valid_set)
        if not math.isfinite(loss):
            raise AgreedError(f"The validation loss is {loss} after step {self.history.steps}.", "Lower finetune.lr.")
        self.history.valid_seconds += time.perf_counter() - started
        self.history.valid.append({"epoch": self.history.epoch, "step": self.history.steps, "loss": loss})
        return loss

    def end_epoch(self) -> None:
        """Validate, keep the adapter if it is the best so far, save."""
        self.history.epoch += 1
        self.history.index = 0
        loss = self.validate()
        superseded = None
        if self.patience.improves(loss):
            tensors = adapter_tensors(self.engine)
            superseded, self.best_file = self.best_file, f"best/epoch-{self.history.epoch:05d}.safetensors"
            if dist.get_rank() == 0:
                named = get_peft_model_state_dict(self.engine.module, state_dict=tensors)
                save_tensors(self.job.folder, self.best_file, named)
        self.patience = self.patience.after(self.history.epoch, loss)
        self.save()
        if superseded is not None and dist.get_rank() == 0:
            self.job.folder.delete(superseded)

    def save(self) -> None:
        tensors, numbers = capture(self.engine)
        if dist.get_rank() == 0:
            state = {
                "stamp": self.job.stamp,
                "history": self.history.__dict__,
                "patience": self.patience.__dict__,
                "best_file": self.best_file,
                "optimizer": numbers,
                "seed": self.spec.seed,
                "workers": self.where,
            }
            save_checkpoint(self.job.folder, self.history.steps, tensors, state)

    def _examples(self, name: str) -> Examples:
        table = self.job.folder.child("examples").read_table(f"{name}.parquet")
        return Examples(
            Encoded(table, self.spec.tokens), self.job.pad_id, self.spec.micro_batch_tokens, self.engine.device
        )


def finetune_loop(job: FinetuneJob, progress: Progress) -> dict[str, Any]:
    """Fine-tune on this rank, from the last checkpoint if there is one; the history and the evidence.

    Raises `UserError` where the model, or a micro-batch, has no room in memory.
    """
    remedy = (
        "Lower finetune.micro_batch_tokens, set finetune.activation_checkpointing or raise finetune.zero, and run "
        "the same command: it goes on from its last checkpoint."
    )
    with lack_of_memory_as("A worker ran out of memory while fine-tuning.", remedy):
        return _tune(job, progress)


def _tune(job: FinetuneJob, progress: Progress) -> dict[str, Any]:
    tuner = Tuner(job)
    spec, history = job.spec, tuner.history
    try:
        proof = evidence(tuner.engine)
        if not history.valid:
            tuner.validate()
        while not tuner.finished:
            batches = global_batches(len(tuner.train_set), spec.global_batch, spec.seed, history.epoch)
            for rows in batches[history.index :]:
                loss = tuner.train_step(rows)
                if dist.get_rank() == 0:
                    facts = {"epoch": history.epoch + 1, "loss": loss, "tokens": history.tokens}
                    progress.update(history.steps, tuner.total_steps, **facts)
                mid_epoch = history.index < len(batches)
                if mid_epoch and spec.checkpoint_steps and history.steps % spec.checkpoint_steps == 0:
                    tuner.save()
            tuner.end_epoch()
            ray.train.report({"epoch": history.epoch, "steps": history.steps, **history.valid[-1]})
        return {
            "history": history.__dict__,
            "best": {
                "epoch": tuner.patience.best_epoch,
                "loss": tuner.patience.best,
                "file": tuner.best_file,
            },
            "workers": proof,
            "peak_memory": peak_memory(),
            "trainable": [list(_shape(p)) for p in trainable_parameters(tuner.engine.module).values()],
            "adapter_config": adapter_config(tuner.engine.module, spec),
        }
    finally:
        tuner.engine.destroy()


def adapter_config(model: PeftModel, spec: FinetuneSpec) -> dict[str, Any]:
    """The content of PEFT's `adapter_config.json`, with the order of every list fixed."""
    config = model.peft_config["default"]
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        written: dict[str, Any] = json.loads((Path(folder) / "adapter_config.json").read_text())
    if isinstance(written["target_modules"], list):
        written["target_modules"] = sorted(written["target_modules"])
    return {**written, "base_model_name_or_path": spec.llm.model, "inference_mode": True}


def _shape(parameter: Any) -> torch.Size:
    return parameter.ds_shape if hasattr(parameter, "ds_shape") else parameter.shape


def _total(part: Tensor) -> float:
    dist.all_reduce(part)
    return float(part.item())
