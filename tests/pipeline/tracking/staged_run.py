"""A run of three light stages that leave what the real ones leave, so that trackers can follow it in no time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.config_file import parse_config
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, Stage, StageContext
from pipeline.tracking.background_tracker import PATIENCE
from pipeline.tracking.run_tracking import tracked_run

SECRET = "sesame"
TRAIN = [4.0, 3.0, 2.5]


def tracked_config(*trackers: str, **select: Any) -> Config:
    """A config that follows a run by these trackers, and whose log lies behind a password."""
    values = {"data": {"interactions": f"s3://user:{SECRET}@bucket/log"}, "track": list(trackers), "select": select}
    return parse_config(values, "c")


def tune(context: StageContext) -> Mapping[str, Any]:
    for step, loss in enumerate(TRAIN, start=1):
        context.progress.update(step, len(TRAIN), epoch=1, loss=loss)
    valid = [{"epoch": 0, "step": 0, "loss": 4.5}, {"epoch": 1, "step": 3, "loss": 2.75}]
    context.out.write_json("losses.json", {"train": TRAIN, "valid": valid})
    return {"steps": 3}


def train_surrogate(context: StageContext) -> Mapping[str, Any]:
    rows = [{"epoch": 1, "loss": 8.0, "ndcg@10": 0.1}, {"epoch": 2, "loss": 7.0, "ndcg@10": 0.2}]
    return {"epochs": rows, "best_epoch": 2, "config": {"hidden": 16}}


def choose(context: StageContext) -> Mapping[str, Any]:
    context.out.write_json("selection.json", {"chosen": 24})
    return {"chosen": 24, "samples": 620, "warnings": []}


STAGES = (
    Stage("surrogate", "surrogate", (), ("surrogate.epochs",), 1, train_surrogate),
    Stage("select", "coreset", ("surrogate",), ("select.size",), 1, choose),
    Stage("finetune", "model", ("select",), ("finetune.lr",), 1, tune),
)


def follow(
    config: Config, run: Storage, count: int = len(STAGES), restart: bool = False, patience: float = PATIENCE
) -> None:
    """Bring the first `count` stages up to date, as a run does."""
    graph = Graph(STAGES, config, run)
    with tracked_run(config, run, restart, patience) as watcher:
        graph.execute(STAGES[:count], EventLog(run), watcher)
