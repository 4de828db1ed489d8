"""The loops that the fine-tuning benchmark runs inside Ray Train's workers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.contest import CLOCKS
from cluster.progress import Progress
from training.llm.token_batches import TokenBatch
from training.loops.finetune_batches import global_batches
from training.loops.finetune_data import Examples, sample_losses
from training.loops.finetune_engine import load_adapted, load_trunk
from training.loops.finetune_loop import Tuner
from training.loops.finetune_spec import FinetuneJob, FinetuneSpec


@dataclass(frozen=True)
class Contest:
    """A job, the number of optimizer steps to measure (after one that is not), and the clock to use."""

    job: FinetuneJob
    steps: int
    clock: str


class PairedSteps(TypedDict):
    """Seconds and losses of each contender by name, and the tokens of each measured step."""

    seconds: dict[str, list[float]]
    tokens: list[int]
    losses: dict[str, list[float]]


class Steps(TypedDict):
    """Seconds and tokens of each measured step."""

    seconds: list[float]
    tokens: list[int]


class LayerSteps(PairedSteps):
    """Steps of "upper" and "all", with the seconds that the states of the frozen layers took and their tokens."""

    state_seconds: float
    state_tokens: int


class BareLoop:
    """Plain PyTorch and PEFT with the same model, loss, micro-batches, optimizer and clipping, and nothing else.

    With frozen layers it starts from the same states, held in memory.
    """

    def __init__(self, spec: FinetuneSpec, examples: Examples, device: torch.device) -> None:
        self._examples = examples
        self._clip = spec.settings.clip
        self._model = load_adapted(spec).to(device).train()
        self._trunk = load_trunk(spec, self._model)
        self._states: dict[tuple[int, ...], Tensor] = {}
        self._parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=spec.settings.lr, weight_decay=spec.settings.weight_decay
        )

    def step(self, rows: np.ndarray, rate: float) -> float:
        """Take one optimizer step, and return its loss."""
        self._optimizer.param_groups[0]["lr"] = rate
        total: Tensor | float = 0.0
        for batch, count in self._examples.micro_batches(rows):
            loss = self._losses(batch)[:count].sum() / len(rows)
            loss.backward()
            total = total + loss.detach()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(total)

    def prepare(self, rows: np.ndarray) -> None:
        """Compute the states that a step on these rows starts from."""
        for batch, _ in self._examples.micro_batches(rows):
            self._padded(batch)

    def _losses(self, batch: TokenBatch) -> Tensor:
        if self._trunk is None:
            return sample_losses(self._model, batch)
        with self._trunk.above(self._padded(batch)):
            return sample_losses(self._model, batch)

    def _padded(self, batch: TokenBatch) -> Tensor:
        assert self._trunk is not None
        key = tuple(batch.rows.tolist())
        if key not in self._states:
            rows = [ids[kept.bool()] for ids, kept in zip(batch.input_ids, batch.attention_mask, strict=True)]
            states = [self._trunk.states(ids[None], torch.tensor([len(ids)], device=ids.device))[0] for ids in rows]
            width = batch.input_ids.shape[1]
            self._states[key] = torch.stack([functional.pad(one, (0, 0, width - len(one), 0)) for one in states])
        return self._states[key]


def against_bare(contest: Contest, progress: Progress) -> PairedSteps:
    """Run the engine and the bare loop on the same batches, one step of each in turn."""
    now, tuner = CLOCKS[contest.clock], Tuner(contest.job)
    bare = BareLoop(tuner.spec, tuner.train_set, tuner.engine.device)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    losses: dict[str, list[float]] = {"ours": [], "bare": []}
    tokens = []
    batches = _batches(tuner, contest.steps + 1)
    tuner.fill_states(tuner.train_set, batches)
    for rows in batches:
        if tuner.states is not None:
            bare.prepare(rows)
        started = now()
        losses["ours"].append(tuner.train_step(rows))
        progress.update(tuner.history.steps, tuner.total_steps, loss=losses["ours"][-1])
        between = now()
        losses["bare"].append(bare.step(rows, tuner.history.learning_rate[-1]))
        seconds["ours"].append(between - started)
        seconds["bare"].append(now() - between)
        tokens.append(int(tuner.train_set.lengths[rows].sum()))
    tuner.engine.destroy()
    measured = {name: values[1:] for name, values in seconds.items()}
    return {"seconds": measured, "tokens": tokens[1:], "losses": losses}


def against_all_layers(contest: Contest, progress: Progress) -> LayerSteps:
    """Tune the last layers and, on the same batches, query and value of all layers, one step of each in turn."""
    now, tuner = CLOCKS[contest.clock], Tuner(contest.job)
    settings = contest.job.spec.settings.model_copy(update={"layers": "all", "targets": None})
    whole = Tuner(replace(contest.job, spec=replace(contest.job.spec, settings=settings)))
    assert tuner.states is not None
    seconds: dict[str, list[float]] = {"upper": [], "all": []}
    losses: dict[str, list[float]] = {"upper": [], "all": []}
    tokens: list[int] = []
    batches = _batches(tuner, contest.steps + 1)
    tuner.fill_states(tuner.train_set, batches)
    for rows in batches:
        for name, one in (("upper", tuner), ("all", whole)):
            started = now()
            losses[name].append(one.train_step(rows))
            seconds[name].append(now() - started)
        progress.update(tuner.history.steps, tuner.total_steps, loss=losses["upper"][-1])
        tokens.append(int(tuner.train_set.lengths[rows].sum()))
    tuner.engine.destroy()
    whole.engine.destroy()
    return {
        "seconds": {name: values[1:] for name, values in seconds.items()},
        "tokens": tokens[1:],
        "losses": losses,
        "state_seconds": tuner.states.seconds,
        "state_tokens": tuner.states.tokens,
    }


def alone(contest: Contest, progress: Progress) -> Steps:
    """Run only the engine."""
    now, tuner = CLOCKS[contest.clock], Tuner(contest.job)
    seconds: list[float] = []
    tokens: list[int] = []
    for rows in _batches(tuner, contest.steps + 1):
        started = now()
        tuner.train_step(rows)
        seconds.append(now() - started)
        tokens.append(int(tuner.train_set.lengths[rows].sum()))
    tuner.engine.destroy()
    return {"seconds": seconds[1:], "tokens": tokens[1:]}


def _batches(tuner: Tuner, count: int) -> list[np.ndarray]:
    """Return the first global batches of training, epoch after epoch."""
    settings, found = tuner.settings, []
    for epoch in range(count):
        found += global_batches(len(tuner.train_set), settings.global_batch, settings.seed, epoch)
        if len(found) >= count:
            break
    return found[:count]
