"""The LLM as a ranker: it generates titles and grounds them in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.stages.ranking_task import Answer, Users
from scoring.ragged import Ragged
from training.llm.llm_spec import LLMSpec
from training.llm.prompts import PromptEncoder, load_template
from training.llm.token_batches import token_batches
from training.ranking.beam_search import BeamSettings
from training.ranking.generate import Generated, TitleGenerator
from training.ranking.grounding import TextEmbedder, TitleSpace, title_scores
from training.ranking.ranking_metrics import title_groups
from training.ranking.title_trie import OUTSIDE, TitleTrie


@dataclass(frozen=True)
class LlmTask:
    """How the LLM is asked.

    Attributes
    ----------
    batch_tokens : prompt tokens a batch, times beams.
    """

    llm: LLMSpec
    template: str | Mapping[str, Any]
    max_items: int
    max_tokens: int
    beams: BeamSettings
    decoding: Literal["free", "constrained"]
    batch_tokens: int


class LlmRanker:
    """Generates a title for each user, and ranks the catalogue by distance to it (BIGRec, Bao et al., 2023).

    Parameters
    ----------
    label : the model's name in tables.
    model, tokenizer : a causal LM, or a PEFT wrapper of one.
    titles, space : n titles, from item 1, and their embeddings.
    adapted : False ranks by the base model under the wrapper.
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
    ) -> None:
        self.label = label
        self._adapted = adapted
        self._task = task
        self._titles = titles
        self._space = space
        self._groups = title_groups(titles)
        template = load_template(task.template)
        self._encoder = PromptEncoder(tokenizer, template, ["", *titles], task.max_items, task.max_tokens)
        self._pad = int(tokenizer.pad_token_id)
        beams, trie = task.beams, None
        self._twins: dict[int, tuple[int, ...]] = {}
        if task.decoding == "constrained":
            items = range(1, len(titles) + 1)
            responses = [self._encoder.response_ids(item) for item in items]
            trie = TitleTrie.build(responses, items)
            # Every title has its own end, and each must be within reach.
            beams = replace(beams, max_new_tokens=max(map(len, responses)))
            self._twins = twins(self._groups)
        self._model = model
        self._generator = TitleGenerator(model, tokenizer, beams, trie)
        self._embedder = TextEmbedder(model, tokenizer)

    def unwritable(self) -> float:
        """Share of titles, by a thousand spread over the catalogue, that take more tokens than are generated."""
        step = -(-len(self._titles) // 1000)
        lengths = [len(self._encoder.response_ids(item)) for item in range(1, len(self._titles) + 1, step)]
        return float(np.mean(np.asarray(lengths) > self._generator.settings.max_new_tokens))

    def answer(self, users: Users) -> Answer:
        with nullcontext() if self._adapted else self._model.disable_adapter():
            best, found = self._generate(users)
        vectors = self._embedder.embed_generated(best, self._titles, self._space.titles)
        beams = found if self._task.decoding == "constrained" else None
        return Answer(title_scores(vectors, self._space, beams), best)

    def _generate(self, users: Users) -> tuple[list[str], Ragged]:
        """Each user's best text, and the items that constrained decoding found, best first.

        The trie knows one item a title. Where the user has seen that one, another of the title stands for it.
        """
        encoded = [self._encoder.encode(users.history.row(row).tolist()) for row in range(len(users))]
        best = [""] * len(users)
        items: list[list[int]] = [[] for _ in best]
        budget = max(1, self._task.batch_tokens // self._task.beams.beams)
        for batch in token_batches(encoded, self._pad, budget):
            for row, texts, found in by_row(self._generator.run(batch)):
                best[row] = texts[0] if texts else ""
                seen = set() if users.seen is None else set(users.seen.row(row).tolist())
                items[row] = [self._unseen(item, seen) for item in found]
        return best, Ragged.from_rows(items)

    def _unseen(self, item: int, seen: set[int]) -> int:
        """The item, or the first of its title that is not among the seen ones; itself when all are."""
        return next((same for same in (item, *self._twins.get(item, ())) if same not in seen), item)


def twins(groups: npt.NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
    """The items that share a title, for each that does; items count from 1, `groups` [n] are `title_groups`."""
    order = np.argsort(groups, kind="stable")
    order = order[np.bincount(groups)[groups[order]] > 1]
    parts = np.split(order + 1, np.flatnonzero(np.diff(groups[order])) + 1)
    return {item: tuple(part.tolist()) for part in parts for item in part.tolist()}


def by_row(generated: Generated) -> list[tuple[int, list[str], list[int]]]:
    """(row, texts, items) for each prompt; an item that several beams found counts once."""
    result = []
    for place, row in enumerate(generated.rows.tolist()):
        found = [item for item in generated.items[place].tolist() if item != OUTSIDE]
        result.append((row, generated.texts[place], list(dict.fromkeys(found))))
    return result
