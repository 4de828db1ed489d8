"""Beam search over a causal LM with a cache, steered by a small automaton.

A prompt is read once rather than once per beam, and a prompt whose search is finished leaves the batch. The beams of a
prompt share its keys and values where the model allows it; otherwise each holds a copy. Scores and stopping rule are
the usual ones: twice as many candidates as beams, finished ones counted among the first half, and stop when no open
beam can beat the worst finished one at its present length. A beam that cannot beat it at any length is dropped, which
changes no result: all that ranks below it at its length cannot either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from training.llm.token_batches import TokenBatch
from training.ranking.shared_prompt import RepeatedPrompts, SharedPrompts

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class BeamSettings:
    """Settings of a beam search.

    `length_penalty` p divides a sequence's sum of log-probabilities by the p-th power of its length. With 0 the scores
    are log-probabilities, which suits comparing titles; with 1 they are means per token.
    """

    beams: int
    max_new_tokens: int
    length_penalty: float = 1.0


class Steering(Protocol):
    """Decides what may be generated and when a sequence ends, from an integer state per sequence."""

    def start(self, count: int) -> Tensor:
        """Return the states before the first token, int64 [count]."""

    def allowed(self, states: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return pairs (index in `states`, token) of all that may follow, by index; None where every token may."""

    def advance(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states after the tokens, and whether the sequences end with them, in any shape."""


@dataclass(frozen=True)
class Beams:
    """K sequences for each of B prompts, best first.

    Attributes
    ----------
    scores : float32 [B, K], minus infinity where there is no sequence.
    tokens : int64 [B, K, L]; only the first `lengths` count.
    lengths, states : int64 [B, K].
    """

    scores: Tensor
    tokens: Tensor
    lengths: Tensor
    states: Tensor

    def pick(self, index: Tensor) -> Beams:
        """Select the sequences at `index` [B, K'] of each prompt."""
        wide = index[:, :, None].expand(-1, -1, self.tokens.shape[2])
        return Beams(
            self.scores.gather(1, index),
            self.tokens.gather(1, wide),
            self.lengths.gather(1, index),
            self.states.gather(1, index),
        )

    def best(self, count: int) -> tuple[Beams, Tensor]:
        """Return the best `count` sequences of each prompt, and their indices."""
        index = self.scores.topk(count, dim=1).indices
        return self.pick(index), index

    def rows(self, index: Tensor) -> Beams:
        return Beams(self.scores[index], self.tokens[index], self.lengths[index], self.states[index])

    def scored(self, scores: Tensor) -> Beams:
        return replace(self, scores=scores)


@torch.inference_mode()
def beam_search(
    model: PreTrainedModel | PeftModel,
    batch: TokenBatch,
    steering: Steering,
    settings: BeamSettings,
    share: bool = False,
) -> Beams:
    """Continue the prompts of a batch, whose last column is the last token of each.

    `model` is a causal LM of transformers or a PEFT wrapper of one, in evaluation mode, on the batch's device. With
    `share`, the beams of a prompt share its keys and values; `training.ranking.sharing.shares_prompts` tells whether
    the model allows it.
    """
    prompts, count = len(batch), settings.beams
    device = batch.input_ids.device
    running = Beams(
        scores=torch.zeros((prompts, 1), device=device),
        tokens=torch.zeros((prompts, 1, settings.max_new_tokens), dtype=torch.long, device=device),
        lengths=torch.zeros((prompts, 1), dtype=torch.long, device=device),
        states=steering.start(prompts)[:, None],
    )
    finished = running.pick(torch.zeros((prompts, count), dtype=torch.long, device=device))
    finished = finished.scored(torch.full_like(finished.scores, -torch.inf))
    open_rows = torch.arange(prompts, device=device)
    reader = SharedPrompts(model, batch) if share else RepeatedPrompts(model, batch)
    logits = reader.logits[:, None]
    # Sums of log-probabilities are negative, so the largest divisor gives the best score that a sum can end with.
    largest = max(1.0, settings.max_new_tokens**settings.length_penalty)
    for length in range(1, settings.max_new_tokens + 1):
        candidates, ended, parents = _extend(running, logits, steering, count)
        if length == settings.max_new_tokens:
            ended = torch.ones_like(ended)
        final = candidates.scores / length**settings.length_penalty
        leading = torch.arange(final.shape[1], device=device) < count
        done = candidates.scored(final.masked_fill(~(ended & leading), -torch.inf))
        kept = _merge(finished.rows(open_rows), done, count)
        _store(finished, open_rows, kept)
        hopeless = candidates.scores / largest <= kept.scores[:, -1:]
        running = candidates.scored(candidates.scores.masked_fill(ended | hopeless, -torch.inf))
        running, index = running.best(min(count, running.scores.shape[1]))
        outlook = running.scores[:, 0] / length**settings.length_penalty
        alive = (outlook > kept.scores[:, -1]).nonzero().flatten()
        if len(alive) == 0:
            break
        running, open_rows = running.rows(alive), open_rows[alive]
        # Places without a sequence come last; a place that no prompt fills is not read.
        filled = torch.arange(int(torch.isfinite(running.scores).sum(dim=1).max()), device=device)
        running = running.pick(filled.expand(len(alive), -1))
        logits = reader.follow(
            alive, parents.gather(1, index)[alive][:, : len(filled)], running.tokens[:, :, length - 1]
        )
    return finished


def _extend(running: Beams, logits: Tensor, steering: Steering, count: int) -> tuple[Beams, Tensor, Tensor]:
    """Return the best 2 `count` continuations, whether each ends, and the beam that each comes from.

    There are fewer where fewer tokens may follow.
    """
    allowed = steering.allowed(running.states.flatten())
    if allowed is None:
        scores, parents, tokens = _best_of_all(running, logits, 2 * count)
    else:
        scores, parents, tokens = _best_allowed(running, logits, *allowed, 2 * count)
    candidates = running.pick(parents)
    states, ended = steering.advance(candidates.states, tokens)
    end = candidates.lengths[:, :, None]
    return (
        Beams(scores, candidates.tokens.scatter(2, end, tokens[:, :, None]), candidates.lengths + 1, states),
        ended,
        parents,
    )


def _best_of_all(running: Beams, logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, beams and tokens of the best continuations [A, at most `count`] by any token."""
    total = running.scores[:, :, None] + logits.log_softmax(dim=-1, dtype=torch.float32)
    scores, flat = total.flatten(1).topk(min(count, total[0].numel()), dim=1)
    return scores, flat // total.shape[2], flat % total.shape[2]


def _best_allowed(
    running: Beams, logits: Tensor, sequences: Tensor, tokens: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same among pairs (sequence, token) alone: a trie allows few of many thousand tokens."""
    rows, beams = running.scores.shape
    log_probs = logits.flatten(0, 1).log_softmax(dim=-1, dtype=torch.float32)
    found = log_probs[sequences, tokens] + running.scores.flatten()[sequences]
    prompts = sequences // beams
    each = torch.bincount(prompts, minlength=rows)
    starts = each.cumsum(0) - each
    table = torch.full((rows, max(1, int(each.max()))), -torch.inf, device=logits.device)
    table[prompts, torch.arange(len(prompts), device=logits.device) - starts[prompts]] = found
    scores, places = table.topk(min(count, table.shape[1]), dim=1)
    # A place beyond a prompt's own pairs has no score; it may point at any pair, so long as there is one.
    pairs = (starts[:, None] + places).clamp(max=len(tokens))
    sequences, tokens = (torch.cat([column, column.new_zeros(1)]) for column in (sequences, tokens))
    return scores, sequences[pairs] % beams, tokens[pairs]


def _merge(old: Beams, new: Beams, count: int) -> Beams:
    """Return the best `count` of both."""
    both = Beams(
        torch.cat([old.scores, new.scores], dim=1),
        torch.cat([old.tokens, new.tokens], dim=1),
        torch.cat([old.lengths, new.lengths], dim=1),
        torch.cat([old.states, new.states], dim=1),
    )
    return both.best(count)[0]


def _store(all_rows: Beams, index: Tensor, rows: Beams) -> None:
    all_rows.scores[index] = rows.scores
    all_rows.tokens[index] = rows.tokens
    all_rows.lengths[index] = rows.lengths
    all_rows.states[index] = rows.states
