"""Batches of encoded prompts, left-padded so that all responses end in the last column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoring.batching import length_buckets
from training.llm.prompts import EncodedPrompt

IGNORED = -100
#: Cells of a pass without gradients. A GPU needs many; on a CPU the states of as many no longer fit in its caches.
_PASS_TOKENS = {"cpu": 512, "cuda": 8192}


def pass_tokens(device: torch.device) -> int:
    """Return how many cells, padding included, a pass without gradients should have on a device."""
    return _PASS_TOKENS.get(device.type, _PASS_TOKENS["cuda"])


@dataclass(frozen=True)
class TokenBatch:
    """A batch of B prompts with T columns. Rows without a response have no labels.

    Attributes
    ----------
    input_ids : int64 [B, T], left-padded.
    attention_mask : int64 [B, T], 0 on padding.
    position_ids : int64 [B, T], counted from the first real token.
    labels : int64 [B, T], the response tokens, IGNORED elsewhere; not shifted: token t is predicted at t - 1.
    response_tokens : int64 [B], number of tokens of each response.
    rows : int64 [B], index of each prompt in the input.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor
    response_tokens: Tensor
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def logits_to_keep(self) -> int:
        """Number of final columns whose logits are needed; the last of them predicts nothing."""
        return int(self.response_tokens.max()) + 1

    def model_inputs(self) -> dict[str, Tensor]:
        """Return the keyword arguments of a causal LM's forward pass."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }

    def to(self, device: str | torch.device) -> TokenBatch:
        return TokenBatch(
            self.input_ids.to(device, non_blocking=True),
            self.attention_mask.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.response_tokens.to(device, non_blocking=True),
            self.rows,
        )

    def slice(self, start: int, stop: int) -> TokenBatch:
        """Return rows `start` to `stop`, with the same columns."""
        return TokenBatch(
            self.input_ids[start:stop],
            self.attention_mask[start:stop],
            self.position_ids[start:stop],
            self.labels[start:stop],
            self.response_tokens[start:stop],
            self.rows[start:stop],
        )


def collate(encoded: Sequence[EncodedPrompt], pad_id: int, rows: npt.ArrayLike | None = None) -> TokenBatch:
    """Collate the prompts at `rows` into one batch, in that order; None takes all of them."""
    picked = np.arange(len(encoded)) if rows is None else np.asarray(rows, dtype=np.int64)
    prompts = [encoded[row] for row in picked]
    width = max((len(prompt.input_ids) for prompt in prompts), default=0)
    ids = np.full((len(prompts), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(prompts), width), dtype=np.int64)
    labels = np.full((len(prompts), width), IGNORED, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        start = width - len(prompt.input_ids)
        ids[row, start:] = prompt.input_ids
        mask[row, start:] = 1
        labels[row, start + prompt.response_start :] = prompt.input_ids[prompt.response_start :]
    return TokenBatch(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        position_ids=torch.from_numpy(np.maximum(mask.cumsum(axis=1) - 1, 0)),
        labels=torch.from_numpy(labels),
        response_tokens=torch.tensor([prompt.response_tokens for prompt in prompts], dtype=torch.long),
        rows=picked,
    )


def token_batches(
    encoded: Sequence[EncodedPrompt],
    pad_id: int,
    max_tokens: int,
    max_rows: int = 1024,
    shuffle_seed: int | None = None,
) -> Iterator[TokenBatch]:
    """Yield batches of prompts of similar length with at most `max_tokens` cells, including padding.

    A prompt longer than that gets a batch of its own. `shuffle_seed` shuffles the order of the batches.
    """
    lengths = np.array([len(prompt.input_ids) for prompt in encoded], dtype=np.int64)
    for rows in length_buckets(lengths, max_tokens, max_rows, shuffle_seed):
        yield collate(encoded, pad_id, rows)
