"""The numbers of a stage, as trackers take them: names, values and steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.masking import masked_values
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.manifest import Manifest
from pipeline.tracking.tracker import Figures
from training.loops.training_records import finetune_losses


def config_params(config: Config) -> dict[str, str]:
    """Return the configuration as "section.key": text, without credentials."""
    return {key: str(value) for key, value in _flat(masked_values(config.model_dump(mode="json", by_alias=True)))}


def progress_figures(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among the facts that a stage reports while it works."""
    return _numbers(facts.items())


def stage_figures(stage: str, folder: Storage, manifest: Manifest) -> list[Figures]:
    """Return all figures of a complete stage.

    Seconds, attempts and counts are those of its manifest. The surrogate adds a row an epoch, fine-tuning the loss of
    each step and epoch, the evaluation the metrics of every model with their 95% intervals.
    """
    facts = {key: value for key, value in manifest.facts.items() if key != "config"}
    whole = {"seconds": manifest.seconds, "attempts": manifest.attempts}
    found = [Figures(_numbers([*_flat(facts), *whole.items()]))]
    if stage == "surrogate":
        found += _rows(manifest.facts["epochs"], "epoch")
    if stage == "finetune":
        losses = finetune_losses(folder)
        found += [Figures({"train_loss": loss}, step) for step, loss in enumerate(losses["train"], start=1)]
        found += [
            Figures({"valid_loss": row["loss"], "epoch": row["epoch"]}, int(row["step"])) for row in losses["valid"]
        ]
    if stage == "evaluate":
        found.append(Figures(_numbers(_model_metrics(folder.read_json("metrics.json")))))
    return [figures for figures in found if figures.values]


def _rows(rows: Iterable[Mapping[str, Any]], step: str) -> list[Figures]:
    return [Figures(_numbers((k, v) for k, v in row.items() if k != step), int(row[step])) for row in rows]


def _model_metrics(metrics: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """Yield metrics by model. The tuned one is `tuned` whatever selected its coreset, so that runs can be compared."""
    for label, values in metrics["models"].items():
        model = "tuned" if label == metrics["focus"] else label
        for metric, interval in values.items():
            yield f"{model}/{metric}", interval["mean"]
            yield f"{model}/{metric}_low", interval["low"]
            yield f"{model}/{metric}_high", interval["high"]
        for figure, value in metrics.get("lists", {}).get(label, {}).items():
            yield f"{model}/{figure}", value


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return found


def _numbers(pairs: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """Return finite numbers by names that every tracker accepts."""
    return {
        _name(key): float(value)
        for key, value in pairs
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _name(key: str) -> str:
    """Turn ndcg@10 into ndcg_at_10, and what is neither letter, digit, point, slash nor dash into an underscore."""
    return re.sub(r"[^a-z0-9./-]+", "_", key.lower().replace("@", "_at_")).strip("_")
