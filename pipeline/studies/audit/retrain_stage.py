"""Stage retrain: surrogates without random samples, and one with planted targets, for `dealrec audit` to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from cluster.sharded_map import map_shards
from cluster.shards import ShardRecord, finished_shards
from cluster.storage import Storage
from pipeline.engine.config import AuditConfig
from pipeline.engine.graph import StageContext
from pipeline.stages.surrogate_stage import surrogate_spec
from pipeline.stages.worker_pools import scoring_pool
from pipeline.studies.audit.audit_arms import AuditArm, subset_arms
from pipeline.studies.audit.audit_scopes import audit_scopes
from pipeline.studies.audit.audit_table import ScoreTables
from pipeline.studies.audit.retraining import PLANTED_MODEL, PlantingWorker, RetrainWorker

SUBSETS, PLANTED = "subsets", "planted"


def run_retrain(context: StageContext) -> Mapping[str, Any]:
    """Two passes on Ray, each resumable; they depend on no score, so all that an audit compares shares them."""
    out, section = context.out.child(PLANTED), context.config.audit
    arms = subset_arms(section)
    # What cannot be audited is refused before hours of training: the second pass would find it last.
    audit_scopes(section, context.folder("surrogate"))
    arguments = {**_training(context), "share": section.planted, "seed": section.seed, "out": out}
    one_pass(context, out, PlantingWorker, arguments, 1)
    retrain(context, context.out.child(SUBSETS), arms, None)
    return {"subsets": len(arms) - 1, "epochs": best_epoch(context)}


def retrain(
    context: StageContext, out: Storage, arms: Sequence[AuditArm], scores: ScoreTables | None
) -> list[ShardRecord]:
    """A surrogate an arm, measured; a record each."""
    arguments = {**_training(context), "arms": arms, "audit": context.config.audit, "scores": scores}
    return one_pass(context, out, RetrainWorker, arguments, len(arms))


def one_pass(
    context: StageContext, out: Storage, worker: Any, arguments: Mapping[str, Any], shards: int
) -> list[ShardRecord]:
    """A pass by as many workers as the cluster has room for."""
    return map_shards(worker, arguments, range(shards), out, scoring_pool(context, shards), context.progress)


def best_epoch(context: StageContext) -> int:
    """Epochs that the run's own surrogate was trained for: all others are trained for as many."""
    return int(context.folder("surrogate").read_json("metrics.json")["best_epoch"])


def measured(folder: Storage, audit: AuditConfig) -> list[ShardRecord]:
    """What the stage recorded of each of `subset_arms`."""
    records = finished_shards(folder.child(SUBSETS), range(len(subset_arms(audit))))
    return [records[index] for index in sorted(records)]


def planted_weights(folder: Storage) -> bytes:
    """The surrogate that was trained on planted targets, as safetensors."""
    return folder.child(PLANTED).read_bytes(PLANTED_MODEL)


def planted_marks(folder: Storage) -> pa.Table:
    """Columns `sample_id` and `planted`, a row a train sample."""
    return folder.child(PLANTED).read_table("part-00000.parquet")


def _training(context: StageContext) -> dict[str, Any]:
    return {
        "spec": surrogate_spec(context.config),
        "epochs": best_epoch(context),
        "data": context.folder("ingest"),
    }
