"""The interface of a surrogate recommender: the base class of the built-in one and of your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch, SequenceBatch
from scoring.losses import OutputLoss
from scoring.objective import Differentiable

#: Settings of a surrogate by name; each builder knows the types of its own.
SurrogateSettings: TypeAlias = Mapping[str, Any]


class Surrogate(nn.Module, ABC):
    """A small sequential recommender over the items 1 to V.

    Training needs `sequence_loss`; influence needs `outputs`, `criterion` and named parameters; ranking needs `encode`
    and `logits`. Layers must have forward-mode derivatives (no fused attention, no `nn.LSTM`), and a row of a batch
    must depend only on its own sample (no batch norm). Shapes: B samples, T items, states of size d, C outputs.
    """

    @property
    @abstractmethod
    def item_count(self) -> int:
        """V, the number of items."""

    @property
    def output_count(self) -> int:
        """C, which limits the rows of a batch that are computed at once; V unless a sampled loss needs fewer."""
        return self.item_count

    @property
    @abstractmethod
    def criterion(self) -> OutputLoss[HistoryBatch]:
        """The scoring loss as a function of `outputs`; it must be the same function at every call."""

    @abstractmethod
    def outputs(self, batch: HistoryBatch) -> Tensor:
        """Return what the losses depend on, [B, C]; row b must depend only on sample b."""

    @abstractmethod
    def encode(self, history: Tensor, lengths: Tensor) -> Tensor:
        """Encode histories int64 [B, T], right-padded with 0, of lengths int64 [B], as [B, d]."""

    @abstractmethod
    def logits(self, encoded: Tensor) -> Tensor:
        """Return the scores of items 1..V, [B, V]; column j is item j + 1."""

    @abstractmethod
    def sequence_loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> tuple[Tensor, int]:
        """Return the training loss, summed over the counted positions of the windows, and the number of positions.

        All randomness except dropout comes from `generator`, which is on the CPU.
        """

    @abstractmethod
    def config_dict(self) -> SurrogateSettings:
        """Return what the builder needs to make an equal surrogate: JSON values, including `max_history`."""

    @abstractmethod
    def scopes(self) -> dict[str, tuple[str, ...]]:
        """Return named parameter patterns over which influence can be computed; the first is the default."""

    def reduced(self, names: Sequence[str]) -> Differentiable[HistoryBatch] | None:
        """Return a cheaper objective with equal losses for a scope of these parameters (see `EncodedObjective`)."""
        return None

    def per_sample_loss(self, batch: HistoryBatch) -> Tensor:
        """Return the loss at each sample's target, `criterion` of `outputs`, [B]."""
        return self.criterion.loss(self.outputs(batch), batch)

    def forward(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> tuple[Tensor, int]:
        """Call `sequence_loss`, under the name that data-parallel wrappers use."""
        return self.sequence_loss(batch, generator)
