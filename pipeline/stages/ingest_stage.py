"""Stage ingest: the log into sequences, samples and items."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.capacity_watch import watch_capacity
from cluster.shapes import WorkerShape
from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.ingest.ingest_log import ingest
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.notices import warn_of_repeats
from pipeline.stages.worker_pools import room_for_tasks


def ingest_spec(config: Config) -> IngestSpec:
    """Return the config's settings of the log and the samples."""
    return IngestSpec.of(config.data, config.samples)


def run_ingest(context: StageContext) -> Mapping[str, object]:
    """Read, clean and group the log. A killed ingest starts over, since its files are written whole."""
    config, is_long = context.config, None
    if config.llm.long_titles == "drop":
        # Only this case needs the tokenizer.
        from pipeline.stages.prompt_titles import long_titles

        is_long = long_titles(config)
    room_for_tasks(context)
    with watch_capacity(WorkerShape(), 1, config.cluster.wait_seconds):
        statistics = ingest(ingest_spec(config), context.out, context.progress, is_long=is_long)
    if config.evaluate.mask_seen:
        warn_of_repeats(statistics)
    return statistics
