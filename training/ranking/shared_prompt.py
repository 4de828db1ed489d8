"""Prompts that are read once, with every continuation beside every other one behind them.

The continuations of a prompt are the branches of one tree. Its tokens stand in one row behind the prompt; a mask shows
each of them the prompt and the tokens of its own branch, and its position is its depth in the tree. So neither the
prompt nor what branches have in common is read twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.llm.token_batches import TokenBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class SharedPrompts:
    """B prompts, whose last column is the last token of each, and the tokens read behind them.

    What all prompts begin with is read once for all of them.

    Only a model for which `training.ranking.sharing.shares_prompts` holds gives the right logits.

    Attributes
    ----------
    logits : [B, V], those at the end of each prompt.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, batch: TokenBatch) -> None:
        from transformers import DynamicCache

        self._model = model
        # Without the model's configuration the cache keeps all keys of a layer with a sliding window.
        self._cache = DynamicCache()
        common, width = _common_tokens(batch), batch.input_ids.shape[1]
        if common:
            first = width - int(batch.attention_mask[0].sum())
            model(
                input_ids=batch.input_ids[:1, first : first + common],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self._cache.batch_repeat_interleave(len(batch))
        # The padding stays behind the common tokens, where it hides the rest of them.
        rest = batch.attention_mask[:, : width - common]
        mask = torch.cat([rest.new_ones((len(batch), common)), rest], dim=1)
        output = model(
            input_ids=batch.input_ids[:, common:],
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)[:, common:],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits: Tensor = output.logits[:, -1]
        self._prompt = mask.bool()
        self._next = mask.sum(dim=1)
        self._dtype = model.get_input_embeddings().weight.dtype
        self._branches = self._prompt.new_ones((len(batch), 1, 0))

    def read(self, tokens: Tensor, visible: Tensor, depths: Tensor) -> Tensor:
        """Return the logits [B, M, V] behind M tokens more of each prompt.

        Parameters
        ----------
        tokens : int64 [B, M].
        visible : bool [B, M, S], which of the S tokens behind the prompt each sees; these M are the last of them.
        depths : int64 [B, M], how many of its branch precede each token.
        """
        prompt = self._prompt[:, None].expand(-1, tokens.shape[1], -1)
        hidden = ~torch.cat([prompt, visible], dim=2)[:, None]
        bias = torch.zeros(hidden.shape, dtype=self._dtype, device=tokens.device)
        logits: Tensor = self._model(
            input_ids=tokens,
            attention_mask=bias.masked_fill_(hidden, torch.finfo(self._dtype).min),
            position_ids=self._next[:, None] + depths,
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        return logits

    @property
    def holds_keys_alone(self) -> bool:
        """Tell whether the cache holds nothing but keys and values of all tokens, which a mask can hide."""
        from transformers import DynamicLayer

        return bool(self._cache.layers) and all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def forget(self, count: int) -> None:
        """Forget the last `count` tokens behind every prompt."""
        self._cache.crop(-count)

    def follow(self, rows: Tensor, parents: Tensor, tokens: Tensor) -> Tensor:
        """Read one token for each of W beams, and return the logits [A, W, V].

        Parameters
        ----------
        rows : int64 [A], the prompts that go on, ascending; the others are dropped.
        parents : int64 [A, W], the beam of the call before that each beam continues.
        tokens : int64 [A, W].
        """
        if len(rows) < len(self._prompt):
            self._prompt, self._next, self._branches = self._prompt[rows], self._next[rows], self._branches[rows]
            self._cache.reorder_cache(rows)
        wide = parents[:, :, None].expand(-1, -1, self._branches.shape[2])
        own = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        before = self._branches.gather(1, wide)
        self._branches = torch.cat([before, own], dim=2)
        return self.read(tokens, self._branches, before.sum(dim=2))


def _common_tokens(batch: TokenBatch) -> int:
    """Return how many tokens all prompts of a batch begin with, at most all but one of the shortest prompt.

    They are mostly the instruction, in front of the first title. A prompt alone has none in common.
    """
    if len(batch) == 1:
        return 0
    lengths = batch.attention_mask.sum(dim=1, keepdim=True)
    places = torch.arange(int(lengths.min()) - 1, device=lengths.device)
    tokens = batch.input_ids.gather(1, batch.input_ids.shape[1] - lengths + places)
    return int((tokens == tokens[:1]).all(dim=0).cumprod(dim=0).sum())


class RepeatedPrompts:
    """Prompts like `SharedPrompts`, which every beam holds a copy of: any model with a cache is served so."""

    def __init__(self, model: PreTrainedModel | PeftModel, batch: TokenBatch) -> None:
        self._model = model
        output = model(**batch.model_inputs(), use_cache=True, logits_to_keep=1)
        self.logits: Tensor = output.logits[:, -1]
        self._cache = output.past_key_values
        self._mask = batch.attention_mask
        self._width = 1

    def follow(self, rows: Tensor, parents: Tensor, tokens: Tensor) -> Tensor:
        """Read one token for each beam, as `SharedPrompts.follow` does."""
        places = (parents + rows[:, None] * self._width).flatten()
        self._width = tokens.shape[1]
        self._cache.reorder_cache(places)
        mask = self._mask[places]
        self._mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
        output = self._model(
            input_ids=tokens.reshape(-1, 1),
            attention_mask=self._mask,
            position_ids=self._mask.sum(dim=1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1].view(*tokens.shape, -1)
