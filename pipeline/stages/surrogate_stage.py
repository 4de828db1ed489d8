"""Stage surrogate: train the small recommender on every train position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.engine.config import Config
from pipeline.engine.graph import StageContext
from pipeline.stages.worker_pools import room_for_training, surrogate_placement
from training.loops.surrogate_training import SurrogateSpec, train_surrogate

CHECKPOINTS = "_checkpoints"


def network_settings(config: Config) -> dict[str, Any]:
    """What a surrogate's builder is given, but for the number of items."""
    section = config.surrogate
    return {
        "max_history": config.samples.max_history,
        "hidden": section.hidden,
        "blocks": section.blocks,
        "heads": section.heads,
        "dropout": section.dropout,
        "loss": section.loss,
        "negatives": section.negatives,
        "seed": section.seed,
        **section.settings,
    }


def surrogate_spec(config: Config) -> SurrogateSpec:
    """The training loop's parameters. Not to be called before Ray is there."""
    section = config.surrogate
    return SurrogateSpec(
        name=section.model,
        network=network_settings(config),
        epochs=section.epochs,
        lr=section.lr,
        warmup_steps=section.warmup_steps,
        weight_decay=section.weight_decay,
        batch_tokens=section.batch_tokens,
        patience=section.patience,
        valid_users=section.valid_users,
        mask_seen=config.evaluate.mask_seen,
        seed=section.seed,
        workers=section.workers,
        placement=surrogate_placement(config),
    )


def run_surrogate(context: StageContext) -> Mapping[str, object]:
    """Train by Ray Train; killed workers and drivers continue from the last epoch's checkpoint."""
    scratch, spec = context.out.child(CHECKPOINTS), surrogate_spec(context.config)
    room_for_training(context, "surrogate", spec.workers, spec.placement)
    metrics = train_surrogate(spec, context.folder("ingest"), context.out, scratch, context.progress)
    scratch.delete("")
    return metrics
