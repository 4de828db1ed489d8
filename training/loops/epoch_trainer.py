"""The part that all training loops share: epochs, early stopping, the best weights so far, and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import ray.train
import torch.distributed as dist
from torch import Tensor

from cluster.progress import Progress
from cluster.storage import Storage
from training.loops.checkpoint import Checkpoint, save_checkpoint, save_tensors
from training.loops.launch import whereabouts
from training.loops.rank_gather import gathered
from training.loops.schedule import Patience

History = TypeVar("History")


class EpochTrainer(ABC, Generic[History]):
    """One rank of a training that continues from its last checkpoint.

    A subclass implements an epoch, the weights and the rest of a checkpoint. Its constructor ends with `resume`.
    All ranks call the methods together.

    Parameters
    ----------
    folder : receives the checkpoints and, in `best/`, the best weights.
    stamp : identifies the checkpoints of this training.
    epochs : the most epochs to run.
    seed : the training's seed, recorded in its checkpoints.

    Attributes
    ----------
    history : the record of the training so far, a dataclass of JSON values.
    patience : the best value so far, and whether to go on.
    best_file : the name in `folder` of the best weights so far.
    where : the process and node of every rank.
    """

    history: History
    patience: Patience

    def __init__(self, folder: Storage, stamp: str, epochs: int, seed: int) -> None:
        self._folder, self._stamp, self._epochs, self._seed = folder, stamp, epochs, seed
        self.best_file: str | None = None
        self.where = gathered(whereabouts())

    @property
    @abstractmethod
    def epoch(self) -> int:
        """The number of completed epochs."""

    @property
    @abstractmethod
    def step(self) -> int:
        """The number of completed optimizer steps."""

    @abstractmethod
    def run_epoch(self, progress: Progress) -> tuple[float, dict[str, float]]:
        """Train to the end of an epoch, validate, and record both in the history.

        Return the value that early stopping compares, and the row to report to Ray Train.
        """

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights to keep when they are the best so far."""

    @abstractmethod
    def snapshot(self) -> tuple[Mapping[str, Tensor], Mapping[str, object]]:
        """Return the tensors of a checkpoint, and the JSON values that this trainer adds to it."""

    @property
    def finished(self) -> bool:
        """Tell whether all epochs are done or patience is exhausted."""
        return self.epoch >= self._epochs or self.patience.exhausted(self.epoch)

    def resume(self, saved: Checkpoint | None, kind: type[History], patience: Patience) -> None:
        """Take history, patience and best weights from a checkpoint, or start without one."""
        self.history, self.patience = kind(), patience
        if saved is not None:
            self.history = kind(**saved.state["history"])
            self.patience = Patience(**saved.state["patience"])
            self.best_file = saved.state["best_file"]

    def train(self, progress: Progress) -> None:
        """Run epochs until the training is finished; each ends with a checkpoint."""
        while not self.finished:
            value, row = self.run_epoch(progress)
            self._end_epoch(value)
            ray.train.report(row)

    def save(self) -> None:
        """Write a checkpoint of the current step."""
        tensors, more = self.snapshot()
        if dist.get_rank() == 0:
            state = {
                "stamp": self._stamp,
                "history": self.history.__dict__,
                "patience": self.patience.__dict__,
                "best_file": self.best_file,
                **more,
                "seed": self._seed,
                "workers": self.where,
            }
            save_checkpoint(self._folder, self.step, tensors, state)

    def _end_epoch(self, value: float) -> None:
        """Keep the weights if they are the best so far, and save. Then delete the weights that they replace."""
        superseded = None
        if self.patience.improves(value):
            superseded, self.best_file = self.best_file, f"best/epoch-{self.epoch:05d}.safetensors"
            best = self.weights()
            if dist.get_rank() == 0:
                save_tensors(self._folder, self.best_file, best)
        self.patience = self.patience.after(self.epoch, value)
        self.save()
        if superseded is not None and dist.get_rank() == 0:
            self._folder.delete(superseded)
