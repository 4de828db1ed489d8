"""What runs inside the actors of stage evaluate: title embeddings, and all models over chunks of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.broadcast import Broadcast
from cluster.storage import Storage
from pipeline.stages.baseline_rankers import PopularityRanker, SimilarityRanker, SurrogateRanker
from pipeline.stages.llm_ranker import LlmRanker, LlmTask
from pipeline.stages.model_names import POPULARITY, SIMILARITY, SURROGATE, UNTUNED
from pipeline.stages.ranking_task import Question, Ranker
from pipeline.stages.surrogate_source import SurrogateSource
from pipeline.stages.title_priors import BASE, TUNED
from pipeline.stages.worker_pools import llm_device
from training.llm.llm_spec import LLMSpec
from training.llm.loading import load_llm, load_tokenizer
from training.llm.lora import load_adapter
from training.ranking.grounding import TextEmbedder, TitleSpace
from training.ranking.ranking_metrics import title_groups


@dataclass(frozen=True)
class Baselines:
    """What the baselines need: the surrogate, and the train interactions `counts` [n] of each item.

    The baselines are the untuned LLM, the similarity of its title embeddings, the surrogate, and popularity.
    """

    surrogate: SurrogateSource
    counts: npt.NDArray[np.int64]


class TitleWorker:
    """Embeds the titles of a chunk of items."""

    def __init__(self, llm: LLMSpec, titles: Sequence[str], chunk: int) -> None:
        self._titles = titles
        self._chunk = chunk
        self._embedder = TextEmbedder(load_llm(llm, llm_device()), load_tokenizer(llm))

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        titles = self._titles[index * self._chunk : (index + 1) * self._chunk]
        vectors = self._embedder.embed(titles)
        values = pa.array(vectors.reshape(-1), pa.float32())
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])}), {}


class RankingWorker:
    """Ranks by all models for one chunk of users after another; a single LLM ranks with its adapter and without.

    Parameters
    ----------
    label : the model's name in tables.
    adapter : the folder of the tuned adapter; None ranks by the LLM without one.
    embeddings : those of the titles, as `titles` [n, d].
    baselines : what the baselines need; None ranks by the LLM alone.
    priors : what `title_priors` returns; None corrects nothing.
    """

    def __init__(
        self,
        question: Question,
        task: LlmTask,
        label: str,
        adapter: Storage | None,
        embeddings: Broadcast,
        baselines: Baselines | None,
        priors: Broadcast | None = None,
    ) -> None:
        self._question = question
        tokenizer = load_tokenizer(task.llm)
        model: Any = load_llm(task.llm, llm_device())
        if adapter is not None:
            with adapter.local_dir() as folder:
                model = load_adapter(model, str(folder))
        titles, space = question.titles, TitleSpace(embeddings.get()["titles"].astype(np.float32, copy=False))
        known = {} if priors is None else {name: column.astype(np.float32) for name, column in priors.get().items()}
        ranker = LlmRanker(label, task, model, tokenizer, titles, space, prior=known.get(TUNED))
        self._facts = {"unwritable": ranker.unwritable()}
        self._groups = title_groups(titles)
        self._tuned = ranker
        self._rankers: list[Ranker] = [ranker]
        if baselines is not None:
            self._rankers += [
                LlmRanker(UNTUNED, task, model, tokenizer, titles, space, False, known.get(BASE), ranker.share),
                SurrogateRanker(SURROGATE, baselines.surrogate, len(titles)),
                PopularityRanker(POPULARITY, baselines.counts),
                SimilarityRanker(SIMILARITY, space, task.max_items),
            ]

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        users, moved = self._question.users(index), self._tuned.moved_by_prior
        listed = self._question.listed
        answers = [
            users.predictions(ranker.label, ranker.answer(users), self._groups, listed) for ranker in self._rankers
        ]
        facts = {**self._facts, "moved_by_prior": self._tuned.moved_by_prior - moved}
        return pa.concat_tables(answers), facts
