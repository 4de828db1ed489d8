"""The LLM as a ranker: it generates titles and grounds them in the catalogue, or scores every title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.stages.ranking_task import Answer, Users
from scoring.ragged import Ragged
from training.llm.llm_spec import LLMSpec
from training.llm.prompts import EncodedPrompt, PromptEncoder, load_template
from training.llm.token_batches import token_batches
from training.ranking.beam_search import BeamSettings
from training.ranking.generate import Generated, TitleGenerator
from training.ranking.grounding import TextEmbedder, TitleSpace, title_scores
from training.ranking.ranking_metrics import title_groups
from training.ranking.sharing import shares_prompts
from training.ranking.title_answers import Scores, TitleAnswers, corrected
from training.ranking.title_likelihood import TitleLikelihood
from training.ranking.title_trie import OUTSIDE

Decoding = Literal["free", "constrained", "likelihood"]
#: The number of titles, and of items in a history, that `shares` tries.
_TRIED = 3


@dataclass(frozen=True)
class LlmTask:
    """How the LLM is asked.

    Attributes
    ----------
    beams : the settings of the search. Their `length_penalty` applies to the likelihood of titles as well.
    batch_tokens : prompt tokens a batch, times beams where each beam holds a copy of its prompt.
    prior_correction : how many times a title's log-probability without a history is subtracted.
    """

    llm: LLMSpec
    template: str | Mapping[str, Any]
    max_items: int
    max_tokens: int
    beams: BeamSettings
    decoding: Decoding
    batch_tokens: int
    prior_correction: float = 0.0


class LlmRanker:
    """Ranks the catalogue by what the LLM answers to a user's history.

    Free decoding generates a title, and ranks by distance to it (BIGRec, Bao et al., 2023). Constrained decoding ranks
    the titles that its beams found by their probability, and the rest by distance to the first of them. Likelihood
    ranks all titles by their probability.

    Parameters
    ----------
    label : the model's name in tables.
    model, tokenizer : a causal LM, or a PEFT wrapper of one.
    titles, space : n titles, from item 1, and their embeddings.
    adapted : False ranks by the base model under the wrapper.
    prior : float32 [n], each title's log-probability without a history, by the same model; None corrects nothing.
    share : whether the model's continuations share their prompt; None tries it.
    allowed : bool [n], the items that constrained decoding may find; None allows all.

    Attributes
    ----------
    share : the given value, or the result of the trial.
    moved_by_prior : the number of users so far whose first title changed because of the prior correction.
    """

    def __init__(
        self,
        label: str,
        task: LlmTask,
        model: Any,
        tokenizer: Any,
        titles: Sequence[str],
        space: TitleSpace,
        adapted: bool = True,
        prior: Scores | None = None,
        share: bool | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.label = label
        self.moved_by_prior = 0
        self._adapted = adapted
        self._task = task
        self._titles = titles
        self._space = space
        self._prior = prior
        self._groups = title_groups(titles)
        self._encoder = title_encoder(task, tokenizer, titles)
        self._pad = int(tokenizer.pad_token_id)
        beams, self._answers = task.beams, None
        self._twins: dict[int, tuple[int, ...]] = {}
        if task.decoding != "free":
            responses = [self._encoder.response_ids(item) for item in range(1, len(titles) + 1)]
            self._answers = TitleAnswers(responses, allowed)
            # The end-of-sequence token of the longest title must be within reach.
            beams = replace(beams, max_new_tokens=int(self._answers.lengths.max()))
            self._twins = twins(self._groups)
        self._model = model
        self.share = shares(model, self._encoder, len(titles), beams.max_new_tokens) if share is None else share
        trie = self._answers.trie if self._answers is not None and task.decoding == "constrained" else None
        self._generator = TitleGenerator(model, tokenizer, beams, trie, self.share)
        self._embedder = TextEmbedder(model, tokenizer)
        self._likelihood = None
        if self._answers is not None and task.decoding == "likelihood":
            self._likelihood = TitleLikelihood(model, self._answers.responses, self._pad, self.share, task.batch_tokens)

    def unwritable(self) -> float:
        """Return the share of titles, of about a thousand, that take more tokens than are generated."""
        step = -(-len(self._titles) // 1000)
        lengths = [len(self._encoder.response_ids(item)) for item in range(1, len(self._titles) + 1, step)]
        return float(np.mean(np.asarray(lengths) > self._generator.settings.max_new_tokens))

    def answer(self, users: Users) -> Answer:
        if self._likelihood is not None and self._answers is not None:
            scores = self._scores(self._likelihood, self._answers, users)
            return Answer(scores, [self._titles[item - 1] for item in users.best(scores).tolist()])
        with self._adapter():
            best, found = self._generate(users)
        vectors = self._embedder.embed_generated(best, self._titles, self._space.titles)
        beams = found if self._task.decoding == "constrained" else None
        return Answer(title_scores(vectors, self._space, beams), best)

    def _adapter(self) -> AbstractContextManager[object]:
        off: AbstractContextManager[object] = nullcontext() if self._adapted else self._model.disable_adapter()
        return off

    def _encoded(self, users: Users) -> list[EncodedPrompt]:
        return [self._encoder.encode(users.history.row(row).tolist()) for row in range(len(users))]

    def _scores(self, likelihood: TitleLikelihood, answers: TitleAnswers, users: Users) -> Scores:
        """Return every title's corrected log-probability for each user, float32 [U, n]."""
        with self._adapter():
            log_probs = np.stack([likelihood.score(prompt) for prompt in self._encoded(users)])
        penalty, weight = self._task.beams.length_penalty, self._task.prior_correction
        scores = corrected(log_probs, answers.lengths, penalty, self._prior, weight)
        if self._prior is not None:
            plain = corrected(log_probs, answers.lengths, penalty, None, 0.0)
            self.moved_by_prior += int((users.best(plain) != users.best(scores)).sum())
        return scores

    def _generate(self, users: Users) -> tuple[list[str], Ragged]:
        """Return each user's best text, and the items that constrained decoding found, best first.

        The trie has one item for each title. If the user has seen that item, another one of the title replaces it.
        """
        encoded = self._encoded(users)
        best = [""] * len(users)
        items: list[list[int]] = [[] for _ in best]
        barred = None
        if self._answers is not None and users.seen is not None:
            barred = self._answers.barred(users.seen)
        budget = max(1, self._task.batch_tokens // (1 if self.share else self._task.beams.beams))
        for batch in token_batches(encoded, self._pad, budget):
            for row, texts, found in by_row(self._corrected(self._generator.run(batch, barred))):
                best[row] = texts[0] if texts else ""
                seen = set() if users.seen is None else set(users.seen.row(row).tolist())
                items[row] = [self._unseen(item, seen) for item in found]
        return best, Ragged.from_rows(items)

    def _corrected(self, generated: Generated) -> Generated:
        """Return the titles that the beams found, in the order of their corrected scores."""
        if self._answers is None or self._prior is None or self._task.prior_correction == 0:
            return generated
        none = np.zeros_like(self._prior)
        penalty, weight = self._task.beams.length_penalty, self._task.prior_correction
        shift = corrected(none, self._answers.lengths, penalty, self._prior, weight)
        scores = np.where(generated.items == OUTSIDE, -np.inf, generated.scores + shift[generated.items - 1])
        order = np.argsort(-scores, axis=1, kind="stable")
        self.moved_by_prior += int((order[:, 0] != 0).sum())
        texts = [
            [row[place] for place in places if place < len(row)]
            for row, places in zip(generated.texts, order.tolist(), strict=True)
        ]
        return replace(
            generated,
            texts=texts,
            scores=np.take_along_axis(scores, order, axis=1).astype(np.float32),
            items=np.take_along_axis(generated.items, order, axis=1),
        )

    def _unseen(self, item: int, seen: set[int]) -> int:
        """Return the item, or else the first item of its title that is unseen; the item itself if all are seen."""
        return next((same for same in (item, *self._twins.get(item, ())) if same not in seen), item)


def title_encoder(task: LlmTask, tokenizer: Any, titles: Sequence[str]) -> PromptEncoder:
    """Build the encoder of prompts and responses for titles that count from item 1."""
    return PromptEncoder(tokenizer, load_template(task.template), ["", *titles], task.max_items, task.max_tokens)


def shares(model: Any, encoder: PromptEncoder, items: int, new_tokens: int) -> bool:
    """Try on prompts and titles of the catalogue whether the continuations of a prompt may share it."""
    some = range(1, min(items, _TRIED) + 1)
    prompts = [encoder.encode(list(some)), encoder.encode([])]
    responses = {tuple(encoder.response_ids(item)) for item in some}
    return shares_prompts(model, prompts, sorted(responses), encoder.prompt_tokens + new_tokens)


def twins(groups: npt.NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
    """Map each item whose title others share to all items of that title.

    Items count from 1. `groups` [n] is what `title_groups` returns.
    """
    order = np.argsort(groups, kind="stable")
    order = order[np.bincount(groups)[groups[order]] > 1]
    parts = np.split(order + 1, np.flatnonzero(np.diff(groups[order])) + 1)
    return {item: tuple(part.tolist()) for part in parts for item in part.tolist()}


def by_row(generated: Generated) -> list[tuple[int, list[str], list[int]]]:
    """Return (row, texts, items) for each prompt. An item that several beams found is listed once."""
    result = []
    for place, row in enumerate(generated.rows.tolist()):
        found = [item for item in generated.items[place].tolist() if item != OUTSIDE]
        result.append((row, generated.texts[place], list(dict.fromkeys(found))))
    return result
