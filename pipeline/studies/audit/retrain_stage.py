"""Stage retrain: the surrogates that `dealrec audit` judges by, without random samples and with planted targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from cluster.sharded_map import ShardWorker, map_shards
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
from training.loops.training_records import surrogate_metrics

SUBSETS, PLANTED = "subsets", "planted"


def run_retrain(context: StageContext) -> Mapping[str, object]:
    """Train one surrogate on planted targets, and one without each random share of the samples.

    Both are passes on Ray that can resume. They depend on no score, so everything that an audit compares shares them.
    """
    out, section = context.out.child(PLANTED), context.config.audit
    arms = subset_arms(section)
    # Refuse wrong scopes before hours of training; otherwise the second pass would only find them at its end.
    audit_scopes(section, context.folder("surrogate"))
    arguments = {**_training(context), "share": section.planted, "seed": section.seed, "out": out}
    one_pass(context, out, PlantingWorker, arguments, 1)
    retrain(context, context.out.child(SUBSETS), arms, None)
    return {"subsets": len(arms) - 1, "epochs": best_epoch(context)}


def retrain(
    context: StageContext, out: Storage, arms: Sequence[AuditArm], scores: ScoreTables | None
) -> list[ShardRecord]:
    """Train and measure one surrogate per arm; return one record each."""
    arguments = {**_training(context), "arms": arms, "audit": context.config.audit, "scores": scores}
    return one_pass(context, out, RetrainWorker, arguments, len(arms))


def one_pass(
    context: StageContext,
    out: Storage,
    worker: Callable[..., ShardWorker],
    arguments: Mapping[str, object],
    shards: int,
) -> list[ShardRecord]:
    """Run a pass with as many workers as the cluster has room for."""
    return map_shards(worker, arguments, range(shards), out, scoring_pool(context, shards), context.progress)


def best_epoch(context: StageContext) -> int:
    """Return the best epoch of the run's own surrogate; all others are trained for as many epochs."""
    return surrogate_metrics(context.folder("surrogate"))["best_epoch"]


def measured(folder: Storage, audit: AuditConfig) -> list[ShardRecord]:
    """Return what the stage recorded for each of `subset_arms`."""
    records = finished_shards(folder.child(SUBSETS), range(len(subset_arms(audit))))
    return [records[index] for index in sorted(records)]


def planted_weights(folder: Storage) -> bytes:
    """Read the surrogate that was trained on planted targets, as safetensors."""
    return folder.child(PLANTED).read_bytes(PLANTED_MODEL)


def planted_marks(folder: Storage) -> pa.Table:
    """Read the columns `sample_id` and `planted`, one row per train sample."""
    return folder.child(PLANTED).read_table("part-00000.parquet")


def _training(context: StageContext) -> dict[str, object]:
    return {
        "spec": surrogate_spec(context.config),
        "epochs": best_epoch(context),
        "data": context.folder("ingest"),
    }
