"""Ranking metrics in the report: one sentence, two charts, and the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report import number_format as fmt
from pipeline.report.charts import IntervalRow, interval_chart
from pipeline.report.report_data import Gain, Metric, Metrics, ReportData
from training.ranking.cutoffs import headline_cutoff

_HEADLINE = ("recall", "ndcg")
#: The figures of lists: the key, whether it has a cut-off, its column, and its format.
_LIST_FIGURES: tuple[tuple[str, bool, str, Callable[[float], str]], ...] = (
    ("distinct", True, "titles shown", fmt.count),
    ("coverage", True, "of the catalogue", fmt.percent),
    ("novelty", True, "novelty, bits", fmt.number),
    ("popularity", True, "popularity, interactions", fmt.number),
    ("outside", False, "texts that are no title", fmt.percent),
)


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


@dataclass(frozen=True)
class ListTable:
    """A table of the models' lists: its columns, and for each model whether it is the run's own, and its cells."""

    cutoff: int
    columns: list[str]
    rows: list[tuple[str, bool, list[str]]]


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


def accuracy_keys(metrics: Metrics) -> list[str]:
    """Return the metrics of the first table: those at 10, or at the headline cut-off if there is no 10."""
    keys = metric_keys(metrics)
    cutoff = headline_cutoff([_cutoff(key) for key in keys]) if keys else 0
    return [key for key in keys if _cutoff(key) == cutoff]


def headline_keys(metrics: Metrics) -> list[str]:
    """Return Recall and NDCG at that cut-off, or else the first two metrics there."""
    keys = accuracy_keys(metrics)
    return [key for key in keys if key.partition("@")[0] in _HEADLINE] or keys[:2]


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


def headline(data: ReportData) -> tuple[str, str]:
    """Return the sentence that says what was gained, and a remark on it; both are "" without metrics."""
    if data.gains:
        return _gained(data)
    metrics = data.metrics or {}
    keys, ours = headline_keys(metrics), metrics.get(data.focus or "", {})
    if not keys or not known(ours, keys[0]):
        return "", ""
    return f"{data.focus} reaches {fmt.metric_name(keys[0])} {_spoken(ours[keys[0]])}.", ""


def _gained(data: ReportData) -> tuple[str, str]:
    first = data.gains[0]
    name = fmt.metric_name(first.metric)
    clauses = "; ".join(_clause(gain, name if gain == first else "") for gain in data.gains)
    users = f"the same {data.users_evaluated:,} test users" if data.users_evaluated else "the same test users"
    beside = " and ".join(f"{gain.theirs:.4f} for {gain.against}" for gain in data.gains)
    return (
        f"{clauses[0].upper()}{clauses[1:]}.",
        f"{name} is {first.ours:.4f}; it is {beside}. Differences are over {users}, with 95% intervals.",
    )


def _clause(gain: Gain, metric: str) -> str:
    found = gain.difference
    side = {1: "gained", 0: "gained nothing beyond chance", -1: "did harm"}[found.sign]
    shown = f"{fmt.signed(found.mean)} ({fmt.signed(found.low)} to {fmt.signed(found.high)})"
    return f"{gain.subject} {side}: {metric}{' ' if metric else ''}{shown} against {gain.against}"


def _spoken(value: Metric) -> str:
    mean, low, high = as_interval(value)
    return f"{mean:.4f} ({low:.4f} to {high:.4f})" if high > low else f"{mean:.4f}"


def list_table(data: ReportData) -> ListTable | None:
    """Build the table of what the lists show, at the cut-off of the headline; None without figures."""
    lists = data.lists or {}
    cutoffs = sorted({_cutoff(key) for row in lists.values() for key in row if "@" in key})
    if not cutoffs:
        return None
    cutoff = headline_cutoff(cutoffs)
    rows = []
    for model, row in lists.items():
        found = [(row.get(f"{key}@{cutoff}" if at else key), form) for key, at, _, form in _LIST_FIGURES]
        cells = [fmt.NOTHING if value is None else form(value) for value, form in found]
        rows.append((model, model == data.focus, cells))
    return ListTable(cutoff, [name for _, _, name, _ in _LIST_FIGURES], rows)


def has_interval(metrics: Metrics | None) -> bool:
    """Return whether any value comes with an interval."""
    return any(isinstance(value, Mapping) for row in (metrics or {}).values() for value in row.values())
