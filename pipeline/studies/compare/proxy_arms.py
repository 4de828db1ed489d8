"""Compare by proxies: every arm is a shard of one pass on Ray, so arms run side by side and a killed pass resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict

import pyarrow.compute as pc

from cluster.digest import json_digest
from cluster.progress import LineProgress
from cluster.sharded_map import map_shards
from cluster.shards import ShardRecord, finished_shards, shard_name
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.events import EventLog
from pipeline.engine.fingerprint import config_part, model_identity
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import ragged_column
from pipeline.stages.evaluate_stage import read_title_embeddings, title_folder
from pipeline.stages.prompt_titles import llm_titles
from pipeline.stages.worker_pools import scoring_pool
from pipeline.studies.compare.arms import Arm, arm_config, arm_graph
from pipeline.studies.compare.outcomes import TEST, VALID, ZERO_SHOT, Outcome
from pipeline.studies.compare.proxy_worker import ProxyWorker
from pipeline.studies.compare.title_embeddings_stage import TITLE_KEYS, title_graph
from training.loops.proxy_loop import PROXY_SETTINGS
from training.loops.proxy_model import SEMANTIC

#: Raise this whenever the code of a proxy, of its tuning or of its ranking changes its result.
_VERSION = 3
_FOLDER = ("arms", "_proxies")


def proxy_outcomes(config: Config, run: Storage, arms: Sequence[Arm], proxies: Sequence[str]) -> list[Outcome]:
    """Return the outcomes of all arms by every proxy, and of the untuned proxies; finished arms are not repeated.

    Ray must be connected, and the shared stages and the features complete.
    """
    out = run.child(*_FOLDER)
    folders = {"ingest": run.child("data"), "surrogate": run.child("surrogate")}
    embeddings = titles = None
    if SEMANTIC in proxies:
        graph = title_graph(config, run)
        graph.execute(graph.stages[1:], EventLog(run))
        titles = llm_titles(config, folders["ingest"]).titles[1:]
        embeddings = read_title_embeddings(title_folder(config, run, titles), titles)
    work = _work(config, run, arms, proxies)
    arguments = {
        "config": config,
        "run": run,
        "arms": work,
        "embeddings": embeddings,
        "titles": titles,
        "proxies": list(proxies),
    }
    with closing(LineProgress("arms", "arms")) as progress:
        pool = scoring_pool(StageContext(config, run, out, folders, progress), len(work))
        records = map_shards(ProxyWorker, arguments, list(work), out, pool, progress)
    return _outcomes(out, work, records, proxies)


def finished_outcomes(
    config: Config, run: Storage, arms: Sequence[Arm], proxies: Sequence[str]
) -> list[Outcome] | None:
    """Return the outcomes without Ray if all are there already; None if any is missing."""
    out, work = run.child(*_FOLDER), _work(config, run, arms, proxies)
    records = finished_shards(out, list(work))
    return None if len(records) < len(work) else _outcomes(out, work, [records[key] for key in work], proxies)


def _work(config: Config, run: Storage, arms: Sequence[Arm], proxies: Sequence[str]) -> dict[int, Arm | None]:
    """Map shard numbers to arms; None stands for the untuned proxies and comes first."""
    return {_number(config, run, arm, proxies): arm for arm in (None, *arms)}


def _outcomes(
    out: Storage, work: Mapping[int, Arm | None], records: Sequence[ShardRecord], proxies: Sequence[str]
) -> list[Outcome]:
    return [outcome for record in records for outcome in _read(out, work[record.index], record, proxies)]


def _number(config: Config, run: Storage, arm: Arm | None, proxies: Sequence[str]) -> int:
    """Number an arm's shard by a digest of everything that its outcome depends on, so that no outcome is ever stale."""
    inputs: dict[str, object] = {
        "version": _VERSION,
        "proxies": {name: asdict(PROXY_SETTINGS[name]) for name in proxies},
        "config": config_part(config, ("evaluate.users", "evaluate.seed", "evaluate.mask_seen", "llm.max_items")),
        "valid_users": config.finetune.valid_users,
        "llm": [config_part(config, TITLE_KEYS), model_identity(config.llm.model)] if SEMANTIC in proxies else None,
        "data": _content(run.child("data")),
    }
    if arm is not None:
        graph = arm_graph(config, run, arm)
        stage = graph.stage("select")
        needs = {need: _content(graph.folder(graph.stage(need))) for need in stage.needs}
        made = arm_config(config, arm)
        part, sources = config_part(made, stage.keys), stage.sources(made)
        inputs["arm"] = [arm.name, arm.training_seed, part, needs, stage.version, *([sources] if sources else [])]
    return int(json_digest(inputs)[:12], 16)


def _content(folder: Storage) -> str | None:
    manifest = read_manifest(folder)
    return None if manifest is None else manifest.content


def _read(out: Storage, arm: Arm | None, record: ShardRecord, proxies: Sequence[str]) -> list[Outcome]:
    """Read the outcome of each proxy in one arm."""
    table = out.read_table(f"{shard_name(record.index)}.parquet")
    facts = record.facts
    found = []
    for name in proxies:
        mine = table.filter(pc.equal(table.column("model"), name))
        ranks = {
            split: ragged_column(mine.filter(pc.equal(mine.column("split"), split)), "ranks") for split in (TEST, VALID)
        }
        if arm is None:
            found.append(Outcome(name, ZERO_SHOT, None, 0, 0, 0, ranks))
            continue
        found.append(
            Outcome(
                name,
                arm.selector,
                arm.size,
                arm.training_seed,
                arm.draw,
                facts["samples"],
                ranks,
                facts["sees_validation"],
                facts["selection_seconds"],
                facts["tuning"][name]["seconds"],
                facts["tuning"][name]["best_step"],
            )
        )
    return found
