"""Summarise a finished run in a few rows: its metrics, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.engine.graph import Graph
from pipeline.engine.manifest import read_manifest
from pipeline.ingest.statistics_record import IngestStatistics
from training.ranking.cutoffs import headline_cutoff

#: The mean of a metric, the ends of its interval and the number of users behind it, by their names in `metrics.json`.
MetricValues = Mapping[str, float]


@dataclass(frozen=True)
class StageTime:
    """A complete stage: wall time in seconds over all attempts, and their number."""

    stage: str
    seconds: float
    attempts: int


def stage_times(graph: Graph) -> list[StageTime]:
    """Return the complete stages, in their order."""
    manifests = ((stage.name, read_manifest(graph.folder(stage))) for stage in graph.stages)
    return [StageTime(name, round(made.seconds, 1), made.attempts) for name, made in manifests if made is not None]


def stage_rows(graph: Graph) -> list[dict[str, object]]:
    """Return a row of a table for each complete stage."""
    return [asdict(time) for time in stage_times(graph)]


def model_metrics(graph: Graph) -> Mapping[str, Mapping[str, MetricValues]]:
    """Return the metrics of each evaluated model by name; empty until the stage evaluate is complete."""
    folder = graph.folder(graph.stage("evaluate"))
    if read_manifest(folder) is None:
        return {}
    models: Mapping[str, Mapping[str, MetricValues]] = folder.read_json("metrics.json")["models"]
    return models


def metrics_rows(graph: Graph) -> list[dict[str, str]]:
    """Return a row for each evaluated model: Recall and NDCG with their intervals, at `headline_cutoff`."""
    return [headline_row(name, values) for name, values in model_metrics(graph).items()]


def kept_rows(statistics: IngestStatistics) -> list[dict[str, object]]:
    """Return what happened to the interactions that ingest read: those kept by split, those dropped by reason."""
    counts = statistics["interactions"]
    kept = {f"kept for {part}": count for part, count in counts.items() if part not in ("read", "kept")}
    dropped = {f"dropped: {reason.replace('_', ' ')}": count for reason, count in statistics["dropped"].items()}
    rows = {"read": counts["read"], **kept, **dropped}
    return [{"interactions": name, "count": count} for name, count in rows.items()]


def headline_row(name: str, metrics: Mapping[str, MetricValues]) -> dict[str, str]:
    """Format one model's headline metrics: the mean and its interval."""
    cutoff = headline_cutoff([int(key.partition("@")[2]) for key in metrics])
    names = (f"recall@{cutoff}", f"ndcg@{cutoff}")
    return {"model": name, **{metric: _interval_text(metrics[metric]) for metric in names}}


def _interval_text(values: MetricValues) -> str:
    return f"{values['mean']:.4f} [{values['low']:.4f}, {values['high']:.4f}]"
