"""The controls of an evaluation: rankers that need no tuned language model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from pipeline.stages.ranking_task import Answer, Users
from pipeline.stages.surrogate_source import SurrogateSource
from scoring.batching import collate, length_buckets
from training.ranking.grounding import TitleSpace


class SurrogateRanker:
    """Ranks `items` items by the surrogate's scores."""

    def __init__(self, label: str, source: SurrogateSource, items: int) -> None:
        self.label = label
        self._items = items
        self._model = source.build_model()
        self._max_history = int(source.config["max_history"])

    def answer(self, users: Users) -> Answer:
        history = users.history.tail(self._max_history)
        scores = np.empty((len(users), self._items), dtype=np.float32)
        with torch.inference_mode():
            for rows in length_buckets(history.lengths, 8192, 512):
                batch = collate(history, np.ones(len(history), dtype=np.int64), rows)
                scores[rows] = self._model.logits(self._model.encode(batch.history, batch.lengths)).numpy()
        return Answer(scores)


class PopularityRanker:
    """Ranks items for everybody alike by their interactions in train, `counts` [n]."""

    def __init__(self, label: str, counts: npt.NDArray[np.int64]) -> None:
        self.label = label
        self._counts = counts.astype(np.float32)

    def answer(self, users: Users) -> Answer:
        return Answer(np.repeat(self._counts[None], len(users), axis=0))


class SimilarityRanker:
    """Ranks titles by their similarity to those of the history, by the untuned LLM's embeddings.

    Nothing is learnt or generated.

    Parameters
    ----------
    max_items : the number of last titles of the history that count, as many as a prompt shows.
    """

    def __init__(self, label: str, space: TitleSpace, max_items: int) -> None:
        self.label = label
        self._space = space
        self._max_items = max_items

    def answer(self, users: Users) -> Answer:
        return Answer(self._space.similarities(users.history.tail(self._max_items)))
