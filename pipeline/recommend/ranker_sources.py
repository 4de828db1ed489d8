"""The rankers that recommend, as the workers of a pass build them: each loads what it needs and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from cluster.broadcast import Broadcast
from cluster.storage import Storage
from pipeline.stages.baseline_rankers import PopularityRanker, SimilarityRanker, SurrogateRanker
from pipeline.stages.llm_ranker import LlmRanker, LlmTask
from pipeline.stages.ranking_task import Ranker
from pipeline.stages.surrogate_source import SurrogateSource, one_thread
from pipeline.stages.title_priors import TUNED
from pipeline.stages.worker_pools import llm_device
from training.llm.loading import load_llm, load_tokenizer
from training.llm.lora import load_adapter
from training.ranking.grounding import TitleSpace

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class RankerSource(Protocol):
    """Builds the ranker of a worker; picklable."""

    def build(self) -> Ranker:
        """Load the model."""


@dataclass(frozen=True)
class PopularitySource:
    """Popularity by `counts` [n], train interactions."""

    counts: npt.NDArray[np.int64]

    def build(self) -> Ranker:
        return PopularityRanker("popularity", self.counts)


@dataclass(frozen=True)
class SurrogateRankerSource:
    """The trained surrogate over `items` items."""

    surrogate: SurrogateSource
    items: int

    def build(self) -> Ranker:
        one_thread()
        return SurrogateRanker("surrogate", self.surrogate, self.items)


@dataclass(frozen=True)
class SimilaritySource:
    """Similarity to the titles of the history, by their `embeddings`: `titles` [n, d]."""

    embeddings: Broadcast
    max_items: int

    def build(self) -> Ranker:
        one_thread()
        return SimilarityRanker("similarity", _space(self.embeddings), self.max_items)


@dataclass(frozen=True)
class LlmSource:
    """The language model.

    Attributes
    ----------
    adapter : the folder of the tuned adapter; None ranks by the model without one.
    titles : the titles as the LLM sees them, from item 1.
    embeddings : those of the titles, as `titles` [n, d].
    priors : what `title_priors` returns for this model; None corrects nothing.
    allowed : bool [n], the items that constrained decoding may find; None allows all.
    """

    task: LlmTask
    adapter: Storage | None
    titles: Sequence[str]
    embeddings: Broadcast
    priors: Broadcast | None = None
    allowed: npt.NDArray[np.bool_] | None = None

    def build(self) -> Ranker:
        tokenizer = load_tokenizer(self.task.llm)
        model: PreTrainedModel | PeftModel = load_llm(self.task.llm, llm_device())
        if self.adapter is not None:
            with self.adapter.local_dir() as folder:
                model = load_adapter(model, str(folder))
        label = "untuned" if self.adapter is None else "llm"
        prior = None if self.priors is None else self.priors.get()[TUNED].astype(np.float32)
        space = _space(self.embeddings)
        return LlmRanker(label, self.task, model, tokenizer, self.titles, space, prior=prior, allowed=self.allowed)


def _space(embeddings: Broadcast) -> TitleSpace:
    return TitleSpace(embeddings.get()["titles"].astype(np.float32, copy=False))
