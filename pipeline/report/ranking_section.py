"""Ranking metrics in the report: one sentence, two charts, and the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report import number_format as fmt
from pipeline.report.charts import IntervalRow, interval_chart
from pipeline.report.report_data import Metric, Metrics, ReportData

HEADLINE_CUTOFF = 10


@dataclass(frozen=True)
class Cell:
    """A table cell: the mean, its interval ("" if unknown), and whether it is the best of its column."""

    mean: str
    interval: str
    best: bool


@dataclass(frozen=True)
class MetricTable:
    """A table with metrics in columns and models in rows."""

    columns: list[str]
    rows: list[tuple[str, bool, list[Cell | None]]]


def known(row: Mapping[str, Metric | None], key: str) -> bool:
    """Return whether the row has a finite value of the metric; a slice may have no users."""
    value = row.get(key)
    mean = value.get("mean") if isinstance(value, Mapping) else value
    return mean is not None and math.isfinite(mean)


def as_interval(value: Metric) -> tuple[float, float, float]:
    """Return mean, low and high; a bare mean is its own interval."""
    if isinstance(value, Mapping):
        mean = float(value["mean"])
        return mean, float(value.get("low", mean)), float(value.get("high", mean))
    return float(value), float(value), float(value)


def metric_keys(metrics: Metrics) -> list[str]:
    """Return all metrics that any model has, by cut-off and then in their original order."""
    keys = list(dict.fromkeys(key for row in metrics.values() for key in row if "@" in key))
    return sorted(keys, key=_cutoff)


def _cutoff(key: str) -> int:
    digits = key.rpartition("@")[2]
    return int(digits) if digits.isdigit() else 0


def headline_keys(metrics: Metrics) -> list[str]:
    """Return the metrics to show first: those at 10, or else at the smallest cut-off."""
    keys = metric_keys(metrics)
    return [key for key in keys if _cutoff(key) == HEADLINE_CUTOFF] or keys[:2]


def table(metrics: Metrics, focus: str | None, keys: list[str] | None = None) -> MetricTable:
    """Build the table of the metrics `keys` (all if None), with the best mean of each column marked."""
    keys = metric_keys(metrics) if keys is None else keys
    best = {
        key: max((as_interval(row[key])[0] for row in metrics.values() if known(row, key)), default=None)
        for key in keys
        if len(metrics) > 1
    }
    rows = []
    for model, row in metrics.items():
        cells = [_cell(row[key], best.get(key)) if known(row, key) else None for key in keys]
        rows.append((model, model == focus, cells))
    return MetricTable([fmt.metric_name(key) for key in keys], rows)


def _cell(value: Metric, best: float | None) -> Cell:
    mean, low, high = as_interval(value)
    interval = f"{low:.4f}{fmt.NOTHING}{high:.4f}" if high > low else ""
    return Cell(f"{mean:.4f}", interval, mean == best and mean > 0)


def charts(data: ReportData) -> list[tuple[str, Markup]]:
    """Return the name and the interval chart of each headline metric."""
    metrics = data.metrics or {}
    pictures = []
    for key in headline_keys(metrics):
        rows = [
            IntervalRow(model, *as_interval(row[key]), "focus" if model == data.focus else "other")
            for model, row in metrics.items()
            if known(row, key)
        ]
        control = metrics.get(data.baseline or "", {})
        guide = as_interval(control[key])[0] if known(control, key) else None
        if rows:
            pictures.append((fmt.metric_name(key), interval_chart(fmt.metric_name(key), rows, guide)))
    return pictures


def slice_tables(data: ReportData) -> list[tuple[str, MetricTable]]:
    """Return the name and the table of headline metrics of each slice."""
    return [
        (name, table(metrics, data.focus, headline_keys(metrics)))
        for name, metrics in (data.slices or {}).items()
        if metrics
    ]


def verdict(data: ReportData) -> Markup:
    """Return one or two sentences on what the run shows; "" without metrics."""
    metrics = data.metrics or {}
    keys = headline_keys(metrics)
    ours = metrics.get(data.focus or "", {})
    if not keys or not known(ours, keys[0]):
        return Markup("")
    key = keys[0]
    reached = Markup("{} reaches {} {}").format(data.focus, fmt.metric_name(key), _spoken(ours[key]))
    control = metrics.get(data.baseline or "", {})
    if not known(control, key):
        return reached + "."
    compared = Markup("; {}, {}. ").format(data.baseline, _spoken(control[key]))
    return reached + compared + _comparison(ours[key], control[key])


def _spoken(value: Metric) -> str:
    mean, low, high = as_interval(value)
    return f"{mean:.4f} ({low:.4f} to {high:.4f})" if high > low else f"{mean:.4f}"


def _comparison(ours: Metric, control: Metric) -> Markup:
    mean, low, high = as_interval(ours)
    control_mean, control_low, control_high = as_interval(control)
    if low == high or control_low == control_high:
        return Markup("There are no intervals, so the difference may be chance.")
    if low > control_high or high < control_low:
        side = "ahead of" if mean > control_mean else "behind"
        return Markup(f"The intervals do not overlap: in this run the coreset is {side} its control.")
    return Markup(
        "The intervals overlap, so this run alone cannot tell the two apart: "
        "<code>dealrec compare</code> repeats it over several seeds."
    )


def has_interval(metrics: Metrics | None) -> bool:
    """Return whether any value comes with an interval."""
    return any(isinstance(value, Mapping) for row in (metrics or {}).values() for value in row.values())
