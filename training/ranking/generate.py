"""Generating titles with the LLM, freely or constrained to the catalogue."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoring.ragged import Ragged
from training.llm.memory import run_in_parts
from training.llm.prompts import parse_response
from training.llm.token_batches import TokenBatch
from training.ranking.beam_search import BeamSettings, Steering, beam_search
from training.ranking.title_trie import OUTSIDE, TitleTrie, TrieSteering

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Generated:
    """Responses to B prompts, best first.

    Attributes
    ----------
    texts : B lists of titles, at most one per beam.
    scores : float32 [B, beams], by BeamSettings.length_penalty; minus infinity where there is no text.
    items : int64 [B, beams], the item of each title in constrained decoding, otherwise OUTSIDE.
    rows : int64 [B], those of the batch.
    """

    texts: list[list[str]]
    scores: npt.NDArray[np.float32]
    items: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


class TitleGenerator:
    """Generates titles for batches of prompts without responses; with a trie, only titles in the trie.

    `model` is a causal LM of transformers or a PEFT wrapper of one. Of its own generation defaults, only the
    end-of-sequence tokens are used. `share` is that of `beam_search`.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: BeamSettings,
        trie: TitleTrie | None = None,
        share: bool = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.settings = settings
        self.share = share
        self.device = next(model.parameters()).device
        self.trie = trie.to(self.device) if trie is not None else None
        if self.trie is None:
            size = model.get_output_embeddings().weight.shape[0]
            self._free = FreeSteering(tokenizer, _ends(model, tokenizer), size, self.device)

    def run(self, batch: TokenBatch, barred: Ragged | None = None) -> Generated:
        """Generate titles. Out of memory halves the batch, not the beams. Raises `UserError` if a row does not fit.

        `barred` maps the number of a prompt in `batch.rows` to the leaves of the trie that its search leaves out.
        """
        parts = run_in_parts(partial(self._run, barred=barred), batch)
        return Generated(
            texts=list(itertools.chain.from_iterable(part.texts for part in parts)),
            scores=np.concatenate([part.scores for part in parts]),
            items=np.concatenate([part.items for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
        )

    def _run(self, batch: TokenBatch, barred: Ragged | None = None) -> Generated:
        inside = None if self.trie is None else self._inside(self.trie, batch, barred)
        steering: Steering = inside or self._free
        beams = beam_search(self.model, batch.to(self.device), steering, self.settings, self.share)
        items = torch.full_like(beams.lengths, OUTSIDE)
        scores = beams.scores
        if inside is not None:
            nodes = inside.nodes(beams.states)
            items = torch.where(nodes >= 0, inside.trie.items[nodes.clamp(min=0)], OUTSIDE)
            # max_new_tokens cut these sequences short inside the trie.
            scores = scores.masked_fill(items == OUTSIDE, -torch.inf)
        items = items.masked_fill(scores == -torch.inf, OUTSIDE)
        order = scores.argsort(dim=1, descending=True, stable=True)
        scores, items = scores.gather(1, order), items.gather(1, order)
        return Generated(
            texts=self._texts(beams.pick(order).tokens, beams.lengths.gather(1, order), scores),
            scores=scores.cpu().numpy(),
            items=items.cpu().numpy(),
            rows=batch.rows,
        )

    def _inside(self, trie: TitleTrie, batch: TokenBatch, barred: Ragged | None) -> TrieSteering:
        if barred is None:
            return TrieSteering(trie)
        own = barred.take(batch.rows)
        prompts, leaves = (torch.from_numpy(a.astype(np.int64)) for a in (own.row_of_value(), own.values))
        return TrieSteering(trie, trie.closed(prompts.to(self.device), leaves.to(self.device)))

    def _texts(self, tokens: Tensor, lengths: Tensor, scores: Tensor) -> list[list[str]]:
        real = torch.isfinite(scores).tolist()
        return [
            [
                parse_response(self.tokenizer.decode(ids[:length], skip_special_tokens=True))
                for ids, length in itertools.compress(zip(row, row_lengths, strict=True), row_real)
            ]
            for row, row_lengths, row_real in zip(tokens.tolist(), lengths.tolist(), real, strict=True)
        ]


class FreeSteering:
    """Allows any token. A sequence ends at an end token, the second double quote, or a line break after visible text.

    A state is twice the number of quotes so far, plus one if anything visible has been written.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: list[int], size: int, device: torch.device) -> None:
        known = min(len(tokenizer), size)
        texts = [*tokenizer.batch_decode([[token] for token in range(known)]), *[""] * (size - known)]
        self._quotes = torch.tensor([text.count('"') for text in texts], device=device)
        self._breaks = torch.tensor(["\n" in text for text in texts], device=device)
        self._visible = torch.tensor([text.strip() != "" for text in texts], device=device)
        self._ends = torch.zeros(size, dtype=torch.bool, device=device)
        self._ends[ends] = True

    def start(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.long, device=self._quotes.device)

    def allowed(self, states: Tensor) -> None:
        return None

    def advance(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        quotes = states // 2 + self._quotes[tokens]
        written = (states % 2 == 1) | self._visible[tokens]
        ended = self._ends[tokens] | (quotes >= 2) | (self._breaks[tokens] & written)
        return 2 * quotes + written.long(), ended


def _ends(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    given = getattr(model.generation_config, "eos_token_id", None)
    more = [given] if isinstance(given, int) else list(given or [])
    return list(dict.fromkeys([tokenizer.eos_token_id, *more]))
