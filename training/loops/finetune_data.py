"""A rank's share of the encoded examples, and the loss of each example."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from scoring.chosen_logits import chosen_logits
from training.llm.token_batches import IGNORED, TokenBatch, collate
from training.loops.examples import Encoded
from training.loops.finetune_batches import deal


def sample_losses(model: Any, batch: TokenBatch) -> Tensor:
    """Return ℓ_LLM of each row, float32 [B]: the mean negative log-likelihood of its labelled tokens."""
    kept = batch.logits_to_keep
    labels = batch.labels[:, -kept:][:, 1:]
    labelled = labels != IGNORED
    with chosen_logits(model.get_output_embeddings(), labelled):
        logits = model(**batch.model_inputs(), logits_to_keep=kept, use_cache=False).logits[0]
    each = functional.cross_entropy(logits.float(), labels[labelled], reduction="none")
    return torch.zeros(labels.shape, device=each.device).masked_scatter(labelled, each).sum(dim=1) / labelled.sum(dim=1)


class Examples:
    """Encoded examples and their share for this rank."""

    def __init__(self, prompts: Encoded, pad_id: int, micro_tokens: int, device: torch.device) -> None:
        self.prompts = prompts
        self.lengths = prompts.lengths
        self._pad_id = pad_id
        self._micro_tokens = micro_tokens
        self._device = device
        self._idle = np.array([int(self.lengths.argmin())])

    def __len__(self) -> int:
        return len(self.prompts)

    def micro_batches(self, rows: np.ndarray) -> list[tuple[TokenBatch, int]]:
        """Return this rank's part of a global batch as pairs (batch, number of rows that count).

        A batch of which 0 rows count only keeps this rank in step with the others.
        """
        return [(self._batch(part if len(part) else self._idle), len(part)) for part in self._dealt(rows)]

    def sequences(self, rows: np.ndarray) -> list[Tensor]:
        """Return the tokens of each row of this rank's part, int64 [T]."""
        return [torch.tensor(self.prompts[int(row)].input_ids) for part in self._dealt(rows) for row in part]

    def idle(self) -> TokenBatch:
        """Return the cheapest batch there is."""
        return self._batch(self._idle)

    def _dealt(self, rows: np.ndarray) -> list[np.ndarray]:
        return deal(rows, self.lengths, dist.get_rank(), dist.get_world_size(), self._micro_tokens)

    def _batch(self, rows: np.ndarray) -> TokenBatch:
        return collate(self.prompts, self._pad_id, rows).to(self._device)
