"""Stage surrogate: train the small recommender on every train position."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.stages.worker_pools import room_for_training, surrogate_placement
from training.loops.surrogate_training import SurrogateSpec, train_surrogate

CHECKPOINTS = "_checkpoints"


def surrogate_spec(config: Config) -> SurrogateSpec:
    """Return the spec of the surrogate's training. Asks the connected Ray what the workers may take."""
    return SurrogateSpec(
        settings=config.surrogate,
        sample_history=config.samples.max_history,
        mask_seen=config.evaluate.mask_seen,
        placement=surrogate_placement(config),
    )


def run_surrogate(context: StageContext) -> Mapping[str, object]:
    """Train by Ray Train; killed workers and drivers continue from the last epoch's checkpoint."""
    scratch, spec = context.out.child(CHECKPOINTS), surrogate_spec(context.config)
    room_for_training(context, "surrogate", spec.settings.workers, spec.placement)
    metrics = train_surrogate(spec, context.folder("ingest"), context.out, scratch, context.progress)
    scratch.delete("")
    return metrics
