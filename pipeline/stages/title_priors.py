"""The log-probability of every title as the answer to a prompt without a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from cluster.broadcast import Broadcast
from cluster.digest import json_digest
from cluster.sharded_map import map_shards
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.fingerprint import model_identity
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.stages.llm_ranker import LlmTask, shares, title_encoder
from pipeline.stages.worker_pools import llm_device, llm_pool
from training.llm.loading import load_llm, load_tokenizer
from training.llm.lora import load_adapter
from training.ranking.title_likelihood import TitleLikelihood

#: Columns of a chunk: the priors of the model with its adapter, and of the model without it.
TUNED, BASE = "tuned", "base"
_TITLES_PER_CHUNK = 512


class PriorWorker:
    """Scores the titles of a chunk without a history.

    Parameters
    ----------
    adapter : the folder of the tuned adapter; None scores by the LLM without one.
    base : whether to score by the model without its adapter as well.
    titles : all titles, from item 1.
    """

    def __init__(self, task: LlmTask, adapter: Storage | None, base: bool, titles: Sequence[str]) -> None:
        self._tokenizer = load_tokenizer(task.llm)
        self._model = load_llm(task.llm, llm_device())
        self._adapted = None
        if adapter is not None:
            with adapter.local_dir() as folder:
                self._adapted = load_adapter(self._model, str(folder))
        self._base = base
        self._encoder = title_encoder(task, self._tokenizer, titles)
        self._share = shares(self._adapted or self._model, self._encoder, len(titles), task.max_tokens // 4)
        self._titles = titles
        self._batch_tokens = task.batch_tokens

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        first = index * _TITLES_PER_CHUNK + 1
        items = range(first, min(first + _TITLES_PER_CHUNK, len(self._titles) + 1))
        responses = [self._encoder.response_ids(item) for item in items]
        prompt, pad = self._encoder.encode([]), int(self._tokenizer.pad_token_id)
        scorer = TitleLikelihood(self._adapted or self._model, responses, pad, self._share, self._batch_tokens)
        columns = {TUNED: pa.array(scorer.score(prompt), pa.float32())}
        if self._base and self._adapted is not None:
            with self._adapted.disable_adapter():
                columns[BASE] = pa.array(scorer.score(prompt), pa.float32())
        return pa.table(columns), {}


def title_priors(
    context: StageContext, task: LlmTask, adapter: Storage | None, base: bool, titles: Sequence[str]
) -> Broadcast:
    """Return the priors of all titles as TUNED and, if `base` is set, as BASE: float32 [n] each.

    They are computed once a run for each adapter. An interrupted pass keeps its finished chunks.
    """
    chunks = list(range(-(-len(titles) // _TITLES_PER_CHUNK)))
    folder = _folder(context, adapter, base, titles)
    arguments = {"task": task, "adapter": adapter, "base": base, "titles": titles}
    map_shards(PriorWorker, arguments, chunks, folder, llm_pool(context, len(chunks)), context.progress)
    found = pa.concat_tables([folder.read_table(f"{shard_name(index)}.parquet") for index in chunks])
    arrays = {name: np.ascontiguousarray(found.column(name).to_numpy()) for name in found.column_names}
    return Broadcast.put(arrays, folder, "_priors.safetensors")


def _folder(context: StageContext, adapter: Storage | None, base: bool, titles: Sequence[str]) -> Storage:
    """Return the folder of these priors, named by a digest of the model, its adapter, the prompt and the titles."""
    llm = context.config.llm
    made = None if adapter is None else read_manifest(adapter)
    tuned = None if made is None else made.content
    key = [model_identity(llm.model), llm.dtype, llm.template, llm.max_tokens, tuned, base, list(titles)]
    return context.run.child("priors", json_digest(key)[:16])
