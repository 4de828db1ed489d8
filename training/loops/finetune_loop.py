"""Fine-tuning on each rank: a plain loop over the optimizer steps on a DeepSpeed engine."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from cluster.progress import Progress
from cluster.shards import peak_memory
from training.llm.memory import lack_of_memory_as
from training.llm.token_batches import TokenBatch
from training.llm.trunk import Trunk
from training.loops.checkpoint import latest_checkpoint
from training.loops.epoch_trainer import EpochTrainer
from training.loops.examples import Encoded
from training.loops.finetune_batches import global_batches, steps_per_epoch
from training.loops.finetune_data import Examples, sample_losses
from training.loops.finetune_engine import (
    build_engine,
    evidence,
    load_adapted,
    load_trunk,
    loss_scale,
    prepare_process,
    trainable_parameters,
)
from training.loops.finetune_spec import FinetuneJob
from training.loops.finetune_state import adapter_tensors, capture, restore_optimizer, restore_parameters
from training.loops.launch import AgreedError
from training.loops.schedule import Patience, seed_of, warm_up_cosine
from training.loops.training_records import FinetuneOutcome, FinetuneTrace, TrunkWork
from training.loops.trunk_states import StateCache, TrunkStates

#: Samples of all ranks whose states are computed in one go: enough for full passes, few enough that ranks stay close.
_SAMPLES_AHEAD = 512


@dataclass
class FinetuneHistory:
    """The fine-tuning so far: the JSON side of a checkpoint.

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


class Tuner(EpochTrainer[FinetuneHistory]):
    """The engine, the examples and the history of one rank."""

    def __init__(self, job: FinetuneJob) -> None:
        self.job, self.spec, self.settings = job, job.spec, job.spec.settings
        super().__init__(job.folder, job.stamp, self.settings.epochs, self.settings.seed)
        prepare_process(job.spec)
        model = load_adapted(job.spec)
        saved = latest_checkpoint(job.folder, job.stamp)
        if saved is not None:
            restore_parameters(model, saved.tensors)
        trunk = load_trunk(job.spec, model)
        self.engine = build_engine(job.spec, model)
        self.states = None if trunk is None else self._trunk_states(trunk)
        self.train_set = self._examples("train")
        self.valid_set = self._examples("valid")
        self._ahead = max(1, _SAMPLES_AHEAD // self.settings.global_batch)
        self.steps_per_epoch = steps_per_epoch(len(self.train_set), self.settings.global_batch)
        self.total_steps = self.steps_per_epoch * self.settings.epochs
        if saved is not None:
            idle = self.train_set.idle()
            restore_optimizer(
                self.engine,
                saved.tensors,
                saved.state["optimizer"],
                lambda: self._losses(idle).sum(),
            )
        self.resume(saved, FinetuneHistory, Patience(self.settings.patience, larger_is_better=False))

    @property
    def epoch(self) -> int:
        return self.history.epoch

    @property
    def step(self) -> int:
        return self.history.steps

    def run_epoch(self, progress: Progress) -> tuple[float, dict[str, float]]:
        """Take the steps that the epoch still lacks, validate, and return the validation loss.

        A checkpoint is saved after every `checkpoint_steps` steps.
        """
        history, settings = self.history, self.settings
        batches = global_batches(len(self.train_set), settings.global_batch, settings.seed, history.epoch)
        for place, rows in enumerate(batches[history.index :]):
            if place % self._ahead == 0:
                self.fill_states(self.train_set, batches[history.index : history.index + self._ahead])
            loss = self.train_step(rows)
            if dist.get_rank() == 0:
                facts = {"epoch": history.epoch + 1, "loss": loss, "tokens": history.tokens}
                progress.update(history.steps, self.total_steps, **facts)
            mid_epoch = history.index < len(batches)
            if mid_epoch and settings.checkpoint_steps and history.steps % settings.checkpoint_steps == 0:
                self.save()
        history.epoch += 1
        history.index = 0
        loss = self.validate()
        return loss, {"epoch": history.epoch, "steps": history.steps, **history.valid[-1]}

    def train_step(self, rows: np.ndarray) -> float:
        """Take one optimizer step on a global batch, and return the mean loss over its samples."""
        history, settings = self.history, self.settings
        started = time.perf_counter()
        torch.manual_seed(seed_of("dropout", settings.seed, history.epoch, history.index, dist.get_rank()))
        rate = settings.lr * warm_up_cosine(
            history.steps, math.ceil(settings.warmup * self.total_steps), self.total_steps
        )
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        self.engine.train()
        total = torch.zeros(1, dtype=torch.float64, device=self.engine.device)
        batches = self.train_set.micro_batches(rows)
        for place, (batch, count) in enumerate(batches):
            self.engine.set_gradient_accumulation_boundary(place == len(batches) - 1)
            losses = self._losses(batch)
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
        """Record and return the mean loss over the validation examples."""
        rows = np.arange(len(self.valid_set))
        self.fill_states(self.valid_set, [rows])
        started = time.perf_counter()
        self.engine.eval()
        total = torch.zeros(1, dtype=torch.float64, device=self.engine.device)
        for batch, count in self.valid_set.micro_batches(rows):
            total += self._losses(batch).sum() * (1 if count else 0)
        loss = _total(total) / len(self.valid_set)
        if not math.isfinite(loss):
            raise AgreedError(f"The validation loss is {loss} after step {self.history.steps}.", "Lower finetune.lr.")
        self.history.valid_seconds += time.perf_counter() - started
        self.history.valid.append({"epoch": self.history.epoch, "step": self.history.steps, "loss": loss})
        return loss

    def weights(self) -> dict[str, Tensor]:
        tensors = adapter_tensors(self.engine)
        named: dict[str, Tensor] = {}
        if dist.get_rank() == 0:
            named = get_peft_model_state_dict(self.engine.module, state_dict=tensors)
        return named

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        tensors, numbers = capture(self.engine)
        return tensors, {"optimizer": numbers}

    def _losses(self, batch: TokenBatch) -> Tensor:
        """Return the loss of each row, starting from the states of the frozen layers if there are any."""
        if self.states is None:
            return sample_losses(self.engine, batch)
        states = self.states.of(batch)
        # Reentrant recomputation needs an input that has a gradient.
        states.requires_grad_(self.settings.activation_checkpointing and torch.is_grad_enabled())
        with self.states.trunk.above(states):
            return sample_losses(self.engine, batch)

    def fill_states(self, examples: Examples, batches: Sequence[np.ndarray]) -> None:
        """Compute the states that this rank will need for global batches, where they are kept."""
        if self.states is not None:
            self.states.fill([row for rows in batches for row in examples.sequences(rows)])

    def _trunk_states(self, trunk: Trunk) -> TrunkStates:
        on_node = [place["node_id"] for place in self.where].count(self.where[dist.get_rank()]["node_id"])
        lockstep = self.settings.zero == 3 and dist.get_world_size() > 1
        return TrunkStates(trunk, StateCache(self.spec.cache, on_node), self.engine.device, lockstep)

    def _examples(self, name: str) -> Examples:
        table = self.job.folder.child("examples").read_table(f"{name}.parquet")
        return Examples(
            Encoded(table, self.settings.tokens), self.job.pad_id, self.settings.micro_batch_tokens, self.engine.device
        )


def finetune_loop(job: FinetuneJob, progress: Progress) -> FinetuneOutcome:
    """Fine-tune on this rank, from the last checkpoint if there is one.

    Raises `UserError` where the model, or a micro-batch, has no room in memory.
    """
    remedy = (
        "Lower finetune.micro_batch_tokens, set finetune.activation_checkpointing or raise finetune.zero, and run "
        "the same command: it goes on from its last checkpoint."
    )
    with lack_of_memory_as("A worker ran out of memory while fine-tuning.", remedy):
        return _tune(job, progress)


def _tune(job: FinetuneJob, progress: Progress) -> FinetuneOutcome:
    tuner = Tuner(job)
    try:
        proof = evidence(tuner.engine)
        if not tuner.history.valid:
            tuner.validate()
        tuner.train(progress)
        return {
            "history": cast(FinetuneTrace, vars(tuner.history)),
            "best": {
                "epoch": tuner.patience.best_epoch,
                "loss": tuner.patience.best,
                "file": tuner.best_file,
            },
            "workers": proof,
            "peak_memory": peak_memory(),
            "trunk": _trunk_work(tuner.states, tuner.engine.device),
            "trainable": [list(_shape(p)) for p in trainable_parameters(tuner.engine.module).values()],
            "adapter_config": adapter_config(tuner.engine.module, job.spec.llm.model),
        }
    finally:
        tuner.engine.destroy()


def adapter_config(model: PeftModel, base: str) -> dict[str, object]:
    """Return the content of PEFT's `adapter_config.json` in a fixed order; `base` names the model that was tuned."""
    config = model.peft_config["default"]
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        written: dict[str, object] = json.loads((Path(folder) / "adapter_config.json").read_text())
    targets = written["target_modules"]
    if isinstance(targets, list):
        written["target_modules"] = sorted(targets)
    return {**written, "base_model_name_or_path": base, "inference_mode": True}


def _shape(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of the whole parameter, of which a rank holds only a part under ZeRO-3."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _trunk_work(states: TrunkStates | None, device: torch.device) -> TrunkWork | None:
    """Return the work of all ranks below the layers that are tuned; None if those are all layers."""
    if states is None:
        return None
    counts = torch.tensor([states.computed, states.tokens], device=device)
    slowest = torch.tensor(states.seconds, dtype=torch.float64, device=device)
    dist.all_reduce(counts)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    samples, tokens = counts.tolist()
    return {"samples": samples, "tokens": tokens, "seconds": round(float(slowest), 3)}


def _total(part: Tensor) -> float:
    dist.all_reduce(part)
    return float(part.item())
