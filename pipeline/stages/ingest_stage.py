"""Stage ingest: the log into sequences, samples and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.capacity_watch import watch_capacity
from cluster.shapes import WorkerShape
from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.ingest.ingest_log import IngestSpec, ingest
from pipeline.ingest.ingest_spec import MinInteractions
from pipeline.ingest.notices import warn_of_repeats
from pipeline.stages.worker_pools import room_for_tasks


def ingest_spec(config: Config) -> IngestSpec:
    """What the config says of the log and of samples."""
    data, samples = config.data, config.samples
    return IngestSpec(
        interactions=data.interactions,
        items=data.items,
        columns={key: name for key, name in data.columns.model_dump().items() if name is not None},
        split=data.split,
        join_parts=data.join_parts,
        min_rating=data.min_rating,
        min_interactions=MinInteractions(data.min_interactions.user, data.min_interactions.item),
        missing_title=data.missing_title,
        missing_id=data.missing_id,
        null_values=data.null_values,
        per_user=samples.per_user,
        max_history=samples.max_history,
        shards=samples.shards,
    )


def run_ingest(context: StageContext) -> Mapping[str, Any]:
    """Read, clean and group the log; a killed ingest starts over, for its files are written whole."""
    config, is_long = context.config, None
    if config.llm.long_titles == "drop":
        # Needs the tokenizer, with which no other ingest has to do.
        from pipeline.stages.prompt_titles import long_titles

        is_long = long_titles(config)
    room_for_tasks(context)
    with watch_capacity(WorkerShape(), 1, config.cluster.wait_seconds):
        statistics = ingest(ingest_spec(config), context.out, context.progress, is_long=is_long)
    if config.evaluate.mask_seen:
        warn_of_repeats(statistics)
    return statistics
