"""Summarise a finished run in a few rows: its metrics, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.engine.graph import Graph
from pipeline.engine.manifest import read_manifest
from training.ranking.cutoffs import headline_cutoff


def stage_rows(graph: Graph) -> list[dict[str, Any]]:
    """Return a row for each complete stage: wall seconds and attempts."""
    rows = []
    for stage in graph.stages:
        manifest = read_manifest(graph.folder(stage))
        if manifest is not None:
            rows.append({"stage": stage.name, "seconds": round(manifest.seconds, 1), "attempts": manifest.attempts})
    return rows


def metrics_rows(graph: Graph) -> list[dict[str, Any]]:
    """Return a row for each evaluated model: Recall and NDCG with their 95% intervals, at 10 or the cut-off that
    stands for it."""
    folder = graph.folder(graph.stage("evaluate"))
    if read_manifest(folder) is None:
        return []
    return [headline_row(name, values) for name, values in folder.read_json("metrics.json")["models"].items()]


def kept_rows(statistics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what happened to the interactions that ingest read: those kept by split, those dropped by reason."""
    parts = [name for name in statistics["interactions"] if name not in ("read", "kept")]
    kept = [{"interactions": f"kept for {part}", "count": statistics["interactions"][part]} for part in parts]
    dropped = [
        {"interactions": f"dropped: {reason.replace('_', ' ')}", "count": count}
        for reason, count in statistics["dropped"].items()
    ]
    return [{"interactions": "read", "count": statistics["interactions"]["read"]}, *kept, *dropped]


def headline_row(name: str, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Format one model's headline metrics: the mean and its interval."""
    row: dict[str, Any] = {"model": name}
    cutoff = headline_cutoff([int(key.partition("@")[2]) for key in metrics])
    for metric in (f"recall@{cutoff}", f"ndcg@{cutoff}"):
        value = metrics[metric]
        row[metric] = f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
    return row
