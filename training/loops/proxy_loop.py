"""Tuning a proxy on a coreset: sampled softmax, and the step with the lowest validation loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from scoring.ragged import Ragged
from training.loops.proxy_model import ProxyModel

_LOOKS_AN_EPOCH = 8


@dataclass(frozen=True)
class ProxySettings:
    """How a proxy is tuned; the same for every coreset, whatever its size.

    Attributes
    ----------
    batch : samples a step.
    negatives : items that a batch's targets compete with, drawn uniformly; all items where there are no more.
    max_steps, max_epochs : steps at most, unless so many epochs take more.
    check_steps : steps between two looks at the validation loss; an epoch where that is less, its eighth where more.
    patience : looks without a lower loss before it stops.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 32
    negatives: int = 512
    max_steps: int = 1500
    max_epochs: int = 4
    check_steps: int = 40
    patience: int = 5


#: The settings of each proxy; its rate learns a few hundred samples in tens of steps.
PROXY_SETTINGS: Mapping[str, ProxySettings] = {"semantic": ProxySettings(lr=3e-4), "lexical": ProxySettings()}


@dataclass(frozen=True, eq=False)
class Pairs:
    """N samples: histories of items, oldest first, and the target int32 [N] that follows."""

    history: Ragged
    target: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return histories [B, T] with 0 after the last item, and targets [B]."""
        return padded(self.history, rows), torch.from_numpy(self.target[rows].astype(np.int64))


@dataclass(frozen=True)
class Tuned:
    """The outcome of tuning: the untuned and the best validation loss, the step of the best, and all steps."""

    untuned_loss: float
    best_loss: float
    best_step: int
    steps: int


def padded(history: Ragged, rows: npt.NDArray[np.int64]) -> Tensor:
    """Return the rows of a history with 0 after the last item, int64 [B, T]; T is at least 1."""
    chosen = history.take(rows)
    cells = np.zeros((len(chosen), max(1, int(chosen.lengths.max(initial=0)))), dtype=np.int64)
    place = np.arange(len(chosen.values)) - np.repeat(chosen.offsets[:-1], chosen.lengths)
    cells[chosen.row_of_value(), place] = chosen.values
    return torch.from_numpy(cells)


def tune_proxy(model: ProxyModel, train: Pairs, valid: Pairs, settings: ProxySettings, seed: int) -> Tuned:
    """Tune `model` in place and leave it at the step with the lowest validation loss; the untuned one is step 0.

    Parameters
    ----------
    valid : the loss over them decides when to stop and what to keep; none takes the last step.
    seed : of the order, the negatives and dropout.
    """
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    epoch = -(-len(train) // settings.batch)
    # On a whole log, as many looks as an epoch of a coreset has would take longer than the steps between them.
    limit = max(settings.max_steps, settings.max_epochs * epoch)
    check = min(max(settings.check_steps, epoch // _LOOKS_AN_EPOCH), epoch)
    untuned = best = validation_loss(model, valid)
    kept, best_step, step, since = _copy(model), 0, 0, 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while step < limit and since < settings.patience:
            order = generator.permutation(len(train))
            for start in range(0, len(order), settings.batch):
                _step(model, train, order[start : start + settings.batch], settings.negatives, optimizer, generator)
                step += 1
                if step % check and step < limit:
                    continue
                loss, since = validation_loss(model, valid), since + 1
                if loss < best or not len(valid):
                    kept, best, best_step, since = _copy(model), loss, step, 0
                if step == limit or since == settings.patience:
                    break
    model.load_state_dict(kept)
    return Tuned(untuned, best, best_step, step)


@torch.no_grad()
def validation_loss(model: ProxyModel, pairs: Pairs, rows_a_batch: int = 128) -> float:
    """Return the mean cross-entropy of the targets among all items; NaN without samples."""
    model.eval()
    total = 0.0
    for start in range(0, len(pairs), rows_a_batch):
        history, target = pairs.batch(np.arange(start, min(start + rows_a_batch, len(pairs))))
        total += float(functional.cross_entropy(model.logits(history), target - 1, reduction="sum"))
    return total / len(pairs) if len(pairs) else float("nan")


def _step(
    model: ProxyModel,
    train: Pairs,
    rows: npt.NDArray[np.int64],
    negatives: int,
    optimizer: torch.optim.Optimizer,
    generator: np.random.Generator,
) -> None:
    model.train()
    history, target = train.batch(rows)
    count = len(model.directions) - 1
    if count <= negatives:
        loss = functional.cross_entropy(model.logits(history), target - 1)
    else:
        drawn = torch.from_numpy(generator.choice(count, negatives, replace=False) + 1)
        # The batch's targets are candidates of all its rows, each once.
        items, place = torch.unique(torch.cat([target, drawn]), return_inverse=True)
        loss = functional.cross_entropy(model.logits(history, items), place[: len(target)])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _copy(model: ProxyModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
