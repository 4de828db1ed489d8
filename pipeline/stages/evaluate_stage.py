"""Stage evaluate: generation, grounding and all-ranking metrics of the tuned LLM, beside its baselines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.broadcast import Broadcast
from cluster.digest import json_digest
from cluster.sharded_map import map_shards
from cluster.shards import ShardRecord, pass_cost, shard_name
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.fingerprint import model_identity
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import ragged_column
from pipeline.stages.evaluate_workers import Baselines, RankingWorker, TitleWorker
from pipeline.stages.evaluation_figures import measure
from pipeline.stages.evaluation_users import draw_test_users
from pipeline.stages.finetune_stage import llm_copy
from pipeline.stages.first_items import first_items
from pipeline.stages.llm_ranker import LlmTask
from pipeline.stages.prompt_titles import llm_titles, title_encoder
from pipeline.stages.ranking_task import LEAST_LISTED, Question
from pipeline.stages.surrogate_source import trained_surrogate
from pipeline.stages.title_priors import title_priors
from pipeline.stages.worker_pools import llm_pool
from scoring.ragged import Ragged
from training.loops.repeats import masking_notice, repeated_targets
from training.ranking.beam_search import BeamSettings

#: Users and titles of one task. They do not depend on the cluster, so the files do not either.
USERS_PER_CHUNK = 16
_TITLES_PER_CHUNK = 512
_MAX_UNWRITABLE = 0.01

log = logging.getLogger(__name__)


def run_evaluate(context: StageContext) -> Mapping[str, object]:
    """Evaluate the tuned LLM and the baselines that the config asks for."""
    return evaluate_model(context, tuned_label(context.config), context.folder("finetune"))


def evaluate_model(context: StageContext, label: str, adapter: Storage | None) -> Mapping[str, object]:
    """Rank by an LLM and by the baselines that the config asks for; finished chunks are kept.

    Writes `metrics.json` and `predictions.parquet`.

    Parameters
    ----------
    label : the LLM's name in tables.
    adapter : the folder of the tuned adapter; None evaluates the LLM without one.
    """
    config, data, out = context.config, context.folder("ingest"), context.out
    chunks = write_users(data, out, config.evaluate.users, config.evaluate.seed)
    found = llm_titles(config, data)
    titles = found.titles[1:]
    counts = data.read_table("items.parquet", ["count"]).column("count").to_numpy()
    embeddings, title_seconds = embed_titles(context, titles)
    folder = out.child("_chunks")
    task = llm_task(context)
    priors = None
    if task.prior_correction:
        priors = title_priors(context, task, adapter, config.evaluate.baselines, titles)
    arguments = {
        "question": Question(out, titles, config.evaluate.mask_seen, max(LEAST_LISTED, *config.evaluate.cutoffs)),
        "task": task,
        "label": label,
        "adapter": adapter,
        "embeddings": embeddings,
        "baselines": _baselines(context, counts),
        "priors": priors,
    }
    pool = llm_pool(context, len(chunks))
    records = map_shards(RankingWorker, arguments, chunks, folder, pool, context.progress)
    predictions = pa.concat_tables([folder.read_table(f"{shard_name(index)}.parquet") for index in chunks])
    unwritable = max(record.facts.get("unwritable", 0.0) for record in records)
    if unwritable > _MAX_UNWRITABLE:
        log.warning(
            "%.0f%% of titles take more tokens than evaluate.max_new_tokens (%d) and are cut short.",
            100 * unwritable,
            config.evaluate.max_new_tokens,
        )
    if config.evaluate.mask_seen:
        asked = pa.concat_tables([out.read_table(f"_users/part-{index:05d}.parquet") for index in chunks])
        warn_of_repeats(ragged_column(asked, "targets"), ragged_column(asked, "seen"))
    metrics = measure(predictions, counts, titles, config.evaluate.cutoffs, config.evaluate.seed, label)
    out.write_table("predictions.parquet", predictions)
    out.write_json("metrics.json", {**metrics, "focus": label})
    return {
        "users": metrics["users"],
        "targets": metrics["targets"],
        "models": list(metrics["models"]),
        "titles": len(titles),
        "title_seconds": title_seconds,
        "unwritable_titles": unwritable,
        "first_items": first_items(predictions, counts, titles, title_encoder(config).title_tokens),
        **_prior_facts(task, records),
        **found.facts(),
        **pass_cost(records),
        "workers": pool.minimum,
    }


def _prior_facts(task: LlmTask, records: Sequence[ShardRecord]) -> dict[str, object]:
    """Return the number of users whose first title changed because of the prior correction."""
    if not task.prior_correction:
        return {}
    return {"moved_by_prior": sum(record.facts.get("moved_by_prior", 0) for record in records)}


def warn_of_repeats(targets: Ragged, seen: Ragged) -> None:
    """Warn when most test targets are masked because their user had chosen them before."""
    notice = masking_notice(repeated_targets(targets, seen), len(targets.values), "test")
    if notice is not None:
        log.warning("%s.", notice)


def llm_task(context: StageContext) -> LlmTask:
    section, llm = context.config.evaluate, context.config.llm
    return LlmTask(
        llm=llm_copy(context),
        template=llm.template,
        max_items=llm.max_items,
        max_tokens=llm.max_tokens,
        beams=BeamSettings(section.beams, section.max_new_tokens, section.power_of_length()),
        decoding=section.decoding,
        batch_tokens=section.batch_tokens,
        prior_correction=section.prior_correction,
    )


def _baselines(context: StageContext, counts: npt.NDArray[np.int64]) -> Baselines | None:
    if not context.config.evaluate.baselines:
        return None
    return Baselines(trained_surrogate(context.folder("surrogate"), context.out, None), counts)


def tuned_label(config: Config) -> str:
    """Return the tuned model's name in tables."""
    return f"LLM, tuned on {config.select.method} coreset"


def write_users(data: Storage, out: Storage, users: int | Literal["all"], seed: int) -> list[int]:
    """Draw the test users by hash, cut them into chunks that depend on the data alone, and return their numbers."""
    drawn = draw_test_users(data, users, seed)
    chunks = list(range(-(-drawn.num_rows // USERS_PER_CHUNK)))
    for index in chunks:
        part = drawn.slice(index * USERS_PER_CHUNK, USERS_PER_CHUNK)
        out.write_table(f"_users/part-{index:05d}.parquet", part)
    return chunks


def embed_titles(context: StageContext, titles: Sequence[str]) -> tuple[Broadcast, float]:
    """Embed every title, [n, d], once a run; return the embeddings and the seconds of all workers together.

    All arms of a comparison share the embeddings.
    """
    spec = llm_copy(context)
    folder = title_folder(context.config, context.run, titles)
    chunks = _title_chunks(titles)
    arguments = {"llm": spec, "titles": titles, "chunk": _TITLES_PER_CHUNK}
    records = map_shards(TitleWorker, arguments, chunks, folder, llm_pool(context, len(chunks)), context.progress)
    return read_title_embeddings(folder, titles), pass_cost(records)["busy_seconds"]


def title_folder(config: Config, run: Storage, titles: Sequence[str]) -> Storage:
    """Return the folder of these titles' embeddings; a digest of the model and the titles names it."""
    key = json_digest([model_identity(config.llm.model), config.llm.dtype, list(titles)])
    return run.child("embeddings", key[:16])


def read_title_embeddings(folder: Storage, titles: Sequence[str]) -> Broadcast:
    """Broadcast the embeddings in a complete `title_folder` as `titles` [n, d]."""
    parts = []
    for index in _title_chunks(titles):
        column = folder.read_table(f"{shard_name(index)}.parquet").column("embedding").combine_chunks()
        parts.append(column.values.to_numpy().reshape(len(column), -1))
    return Broadcast.put({"titles": np.concatenate(parts)}, folder, "_titles.safetensors")


def _title_chunks(titles: Sequence[str]) -> list[int]:
    return list(range(-(-len(titles) // _TITLES_PER_CHUNK)))
