"""Stage effort: the LLM's gradient norm on every sample, a shard a task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cluster.storage import Storage
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import read_samples, score_table, train_shards
from pipeline.stages.effort_candidates import Candidates, require_candidates
from pipeline.stages.finetune_stage import llm_copy, lora_spec
from pipeline.stages.prompt_titles import llm_titles
from pipeline.stages.scoring_pass import ScoringPass
from pipeline.stages.trunk_home import trunk_cache
from pipeline.stages.worker_pools import llm_device, llm_pool
from scoring.effort import EffortScorer, Scope, Tokens
from scoring.exceptions import ScoringError
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.llm.loading import load_llm, load_tokenizer
from training.llm.lora import adapter_hash, attach_lora
from training.llm.memory import run_in_parts
from training.llm.prompts import PromptEncoder, load_template
from training.llm.token_batches import TokenBatch, token_batches
from training.llm.trial import scope_fault
from training.llm.trunk import Trunk
from training.loops.trunk_states import CacheSettings, StateCache, TrunkStates


@dataclass(frozen=True)
class EffortTask:
    """Settings of the stage's workers.

    Attributes
    ----------
    cache : where the states of the frozen layers are kept for fine-tuning; None leaves the model whole.
    workers : the number of workers that share the room of the cache, at most.
    """

    llm: LLMSpec
    lora: LoraSpec
    template: str | Mapping[str, Any]
    max_items: int
    max_tokens: int
    scope: Scope
    tokens: Tokens
    batch_tokens: int
    cache: CacheSettings | None = None
    workers: int = 1


def run_effort(context: StageContext) -> Mapping[str, object]:
    """Score the samples; a killed pass resumes with its missing shards."""
    config, data = context.config, context.folder("ingest")
    section = config.effort
    indices = train_shards(data)
    candidates = None
    if section.candidates != "all":
        candidates = Candidates.over(context.folder("influence"), len(indices), section.candidates)
        require_candidates(section.candidates, any(candidates.rule.rates))
    pool = llm_pool(context, len(indices))
    task = EffortTask(
        llm=llm_copy(context),
        lora=lora_spec(config, dropout=0.0),
        template=config.llm.template,
        max_items=config.llm.max_items,
        max_tokens=config.llm.max_tokens,
        scope=section.scope,
        tokens=section.tokens,
        batch_tokens=section.batch_tokens,
        cache=_kept_states(context),
        workers=pool.maximum,
    )
    titles = llm_titles(config, data)
    arguments = {"task": task, "titles": titles.titles, "candidates": candidates}
    scored = ScoringPass.run(context, pool, EffortWorker, arguments)
    nonfinite = scored.require_finite(
        "effort",
        section.max_nonfinite,
        "Set llm.dtype to float32 or bfloat16, and recompute by `dealrec run CONFIG --from effort`.",
    )
    adapters = {record.facts["adapter"] for record in scored.records}
    if len(adapters) != 1:
        raise RuntimeError(f"workers started from different adapters: {sorted(adapters)}")
    return {
        "scored": scored.count("scored"),
        "nonfinite": nonfinite,
        "tokens": scored.count("tokens"),
        "candidates": None if candidates is None else candidates.rule.facts(),
        **titles.facts(),
        "adapter": adapters.pop(),
        **scored.facts(),
    }


def _kept_states(context: StageContext) -> CacheSettings | None:
    """Return where fine-tuning will look for the states of frozen layers, if it will need a good part of them.

    If every sample is scored, fine-tuning needs few of the states, and the others would only fill the disk.
    """
    return None if context.config.effort.candidates == "all" else trunk_cache(context.config, context.run)


class EffortWorker:
    """Holds the LLM with its fresh adapter; scores one shard after another. `titles` are by item index."""

    def __init__(self, task: EffortTask, data: Storage, titles: Sequence[str], candidates: Candidates | None) -> None:
        self._task = task
        self._data = data
        self._candidates = candidates
        self._device = llm_device()
        tokenizer = load_tokenizer(task.llm)
        self._scorer = prepare_scorer(task.llm, task.lora, self._device, task.scope, task.tokens)
        self._adapter = adapter_hash(self._scorer.model)
        self._states = None
        if task.cache is not None and task.lora.layers is not None:
            trunk = Trunk(self._scorer.model, task.lora.layers)
            self._states = TrunkStates(trunk, StateCache(task.cache, task.workers), torch.device(self._device))
        self._pad = int(tokenizer.pad_token_id)
        self._encoder = PromptEncoder(tokenizer, load_template(task.template), titles, task.max_items, task.max_tokens)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        samples = read_samples(self._data, index)
        every = np.ones(len(samples), dtype=np.bool_)
        chosen = every if self._candidates is None else self._candidates.chosen(index, samples.sample_id)
        rows = np.flatnonzero(chosen)
        encoded = [
            self._encoder.encode(samples.history.row(row).tolist(), int(samples.target[row])) for row in rows.tolist()
        ]
        scores = np.full(len(samples), np.nan, dtype=np.float32)
        for batch in token_batches(encoded, self._pad, self._task.batch_tokens):
            for part, norms in run_in_parts(self._score, batch):
                scores[rows[part]] = norms
        facts = {
            "scored": len(rows),
            "nonfinite": int((~np.isfinite(scores[chosen])).sum()),
            "tokens": sum(len(prompt.input_ids) for prompt in encoded),
            "adapter": self._adapter,
        }
        return score_table(samples.sample_id, "effort", scores, ~chosen), facts

    def _score(self, batch: TokenBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        above: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if self._states is not None:
            above = self._states.trunk.above(self._states.of(batch))
        with _scope_faults(self._task.scope, self._task.lora), above:
            return batch.rows, self._scorer.per_sample_norms(batch.to(self._device))


def prepare_scorer(llm: LLMSpec, lora: LoraSpec, device: str, scope: Scope, tokens: Tokens) -> EffortScorer:
    """Load the model with a fresh adapter, ready to compute gradient norms.

    Raises `UserError` for a model that cannot be used, for targets that it lacks, and for a scope that has none of
    them.
    """
    model = attach_lora(load_llm(llm, device), lora)
    with _scope_faults(scope, lora):
        return EffortScorer(model, scope, tokens)


@contextlib.contextmanager
def _scope_faults(scope: Scope, lora: LoraSpec) -> Iterator[None]:
    """Turn a scope that effort cannot be measured on into the user's error, at once or in the first batch."""
    try:
        yield
    except ScoringError as error:
        raise scope_fault(error, scope, lora) from error
