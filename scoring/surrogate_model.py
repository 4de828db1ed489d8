"""What a surrogate recommender must offer: the class that one of your own derives from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch, SequenceBatch
from scoring.losses import OutputLoss


class Surrogate(nn.Module, ABC):
    """A small sequential recommender over the items 1 to V.

    Training needs `sequence_loss`; influence needs `outputs`, `criterion` and named parameters; ranking needs `encode`
    and `logits`. Layers must have forward-mode derivatives (not fused attention, not `nn.LSTM`), and a row of a
    batch must depend on its own sample alone (no batch norm). B samples, T items, d numbers a state, C outputs.
    """

    @property
    @abstractmethod
    def item_count(self) -> int:
        """V."""

    @property
    def output_count(self) -> int:
        """C, which bounds the rows of a batch that are computed at once; V unless a sampled loss needs fewer."""
        return self.item_count

    @property
    @abstractmethod
    def criterion(self) -> OutputLoss:
        """The scoring loss as a function of `outputs`; frozen, the same function at every call."""

    @abstractmethod
    def outputs(self, batch: HistoryBatch) -> Tensor:
        """[B, C], what the loss of a sample depends on; row b depends on sample b alone."""

    @abstractmethod
    def encode(self, history: Tensor, lengths: Tensor) -> Tensor:
        """[B, d] from histories int64 [B, T], padded on the right with 0, and lengths int64 [B]."""

    @abstractmethod
    def logits(self, encoded: Tensor) -> Tensor:
        """[B, V], the score of items 1..V; column j is item j + 1."""

    @abstractmethod
    def sequence_loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> tuple[Tensor, int]:
        """The training loss, summed over the counted positions of the windows, and their number.

        Whatever is drawn at random besides dropout comes from `generator`, which is on the CPU.
        """

    @abstractmethod
    def config_dict(self) -> dict[str, Any]:
        """What its builder needs to make an equal one: JSON values, `max_history` among them."""

    @abstractmethod
    def scopes(self) -> dict[str, tuple[str, ...]]:
        """Named patterns of parameters to take influence over; the first is what it is taken over by default."""

    def reduced(self, names: Sequence[str]) -> Any | None:
        """A cheaper objective of equal losses for a scope of these parameters (see `EncodedObjective`), or None."""
        return None

    def per_sample_loss(self, batch: HistoryBatch) -> Tensor:
        """[B], `criterion` of `outputs`: the loss at the target alone."""
        return self.criterion.loss(self.outputs(batch), batch)

    def forward(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> tuple[Tensor, int]:
        """`sequence_loss`, under the name that data-parallel wrappers call."""
        return self.sequence_loss(batch, generator)
