"""A surrogate of a user's own: the mean of the last items' embeddings, through one linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch, SequenceBatch
from scoring.losses import OutputLoss, SoftmaxLoss
from scoring.surrogate import Surrogate


class MeanOfItems(Surrogate):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._settings = {key: settings[key] for key in ("item_count", "max_history", "width")}
        torch.manual_seed(0)
        self.embedding = nn.Embedding(settings["item_count"] + 1, settings["width"], padding_idx=0)
        self.mix = nn.Linear(settings["width"], settings["width"])
        # Frozen, as features that were computed elsewhere are.
        self.offset = nn.Parameter(torch.randn(settings["item_count"]), requires_grad=False)

    @property
    def item_count(self) -> int:
        return int(self._settings["item_count"])

    @property
    def criterion(self) -> OutputLoss:
        return SoftmaxLoss(lambda batch: batch.target - 1)

    def encode(self, history: Tensor, lengths: Tensor) -> Tensor:
        return self.mix(self.embedding(history).sum(1) / lengths.clamp(min=1)[:, None])

    def logits(self, encoded: Tensor) -> Tensor:
        return encoded @ self.embedding.weight[1:].T + self.offset

    def outputs(self, batch: HistoryBatch) -> Tensor:
        return self.logits(self.encode(batch.history, batch.lengths))

    def sequence_loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> tuple[Tensor, int]:
        places = torch.arange(1, batch.inputs.shape[1] + 1, device=batch.items.device)
        states = self.mix(self.embedding(batch.inputs).cumsum(1) / places[None, :, None])[batch.counted]
        target = batch.targets[batch.counted]
        flat = HistoryBatch(target[:, None], torch.ones_like(target), target)
        return self.criterion.loss(self.logits(states), flat).sum(), len(target)

    def config_dict(self) -> dict[str, Any]:
        return dict(self._settings)

    def scopes(self) -> dict[str, tuple[str, ...]]:
        return {"mix": ("mix.*",), "all": ("*",)}


def build(settings: Mapping[str, Any], item_counts: Sequence[int] | Tensor | None) -> Surrogate:
    return MeanOfItems(settings)


def build_nothing(settings: Mapping[str, Any], item_counts: Sequence[int] | Tensor | None) -> nn.Module:
    return nn.Linear(1, 1)
