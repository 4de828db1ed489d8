"""Turn a run's data into what the page shows: each section's charts, tables and captions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from cluster.progress import format_seconds
from pipeline.engine.json_value import JsonRecord, JsonValue, number_or_none, records
from pipeline.engine.selection_record import SelectionReport
from pipeline.report import number_format as fmt
from pipeline.report import ranking_section
from pipeline.report.charts import TAIL, Series, line_chart, score_histogram, strata_chart
from pipeline.report.report_data import SELECTION, Array, ReportData
from pipeline.report.report_rows import ExampleView, ShownList, StageView
from pipeline.report.scatter import MAX_PICKS, score_scatter

_IDLE = ("not run", "skipped")


def page(data: ReportData) -> dict[str, object]:
    """Return everything that the template needs."""
    known = [number_or_none(stage.get("seconds")) for stage in data.stages]
    seconds = [value for value in known if value is not None]
    dropped = data.statistics.get("dropped")
    return {
        "data": data,
        "facts": _facts(data, sum(seconds)),
        "lead": _lead(data),
        "warnings": _all_warnings(data),
        "ranking": _ranking(data),
        "pruning": _pruning(data),
        "surrogate": _surrogate(data.surrogate),
        "finetune": _finetune(data.finetune),
        "examples": [_example(example) for example in data.examples],
        "stages": _stages(data.stages),
        "total": format_seconds(sum(seconds)) if seconds else "",
        "statistics": list(fmt.flatten({k: v for k, v in data.statistics.items() if k not in ("dropped", "warnings")})),
        "dropped": [(k.replace("_", " "), v) for k, v in dropped.items()] if isinstance(dropped, Mapping) else [],
        "provenance": list(fmt.flatten(data.provenance)),
    }


def _facts(data: ReportData, seconds: float) -> list[tuple[str, str]]:
    sizes = ((name, data.statistics.get(name)) for name in ("users", "items", "interactions"))
    facts = [(name, fmt.count(size)) for name, size in sizes if isinstance(size, int)]
    if data.selection:
        facts.append(("samples", fmt.count(data.selection["samples"])))
        facts.append(("coreset", fmt.count(data.selection["chosen"])))
    if seconds:
        facts.append(("total time", format_seconds(seconds)))
    return facts


def _lead(data: ReportData) -> tuple[str, str]:
    """Return the first sentence, which states the gain if it is known, and the other sentences."""
    (gained, more), kept = ranking_section.headline(data), _kept(data.selection)
    if not gained:
        return kept, ""
    if (
        data.selection
        and data.selection.get("method") != "random"
        and all(gain.subject != SELECTION for gain in data.gains)
    ):
        more += " No random coreset of this size was tuned in this run, so it does not say what the selection gained."
    return gained, f"{kept} {more}".rstrip()


def _kept(selection: SelectionReport | None) -> str:
    """Return a sentence on what the selection kept."""
    if not selection or not selection.get("samples"):
        return "No coreset has been selected yet."
    chosen, samples = selection["chosen"], selection["samples"]
    return f"{chosen:,} of {samples:,} samples kept, {fmt.percent(chosen / samples)}."


def _all_warnings(data: ReportData) -> list[str]:
    told = data.selection.get("warnings", []) if data.selection else []
    selected = [f"Selection: {warning}" for warning in told if warning not in data.warnings]
    ingested = [f"Log: {warning}" for warning in _entries(data.statistics.get("warnings"))]
    return list(dict.fromkeys([*data.warnings, *ingested, *selected]))


def _entries(value: JsonValue) -> list[JsonValue]:
    return [] if isinstance(value, str) or not isinstance(value, Sequence) else list(value)


def _ranking(data: ReportData) -> dict[str, object] | None:
    if not data.metrics:
        return None
    return {
        "charts": ranking_section.charts(data),
        "table": ranking_section.table(data.metrics, data.focus, ranking_section.accuracy_keys(data.metrics)),
        "whole": ranking_section.table(data.metrics, data.focus),
        "lists": ranking_section.list_table(data),
        "slices": ranking_section.slice_tables(data),
        "intervals": ranking_section.has_interval(data.metrics),
        "users": fmt.count(data.users_evaluated) if data.users_evaluated else "",
        "baseline": data.baseline if data.baseline in data.metrics else None,
    }


def _finite(*columns: Array | None) -> list[Array]:
    """Return the rows that are finite in all columns, as float64; no rows if a column is missing."""
    present = [np.asarray(column, dtype=np.float64) for column in columns if column is not None]
    if len(present) < len(columns):
        return [np.empty(0)] * len(columns)
    keep = np.logical_and.reduce([np.isfinite(column) for column in present])
    return [column[keep] for column in present]


def _pruning(data: ReportData) -> dict[str, object]:
    """Build histograms, strata and scatter plot; each is None if its scores are missing."""
    histograms = []
    pairs = (
        ("influence", data.influence, data.picked_influence),
        ("effort", data.effort, data.picked_effort),
    )
    for name, everyone, picks in pairs:
        (values,), (picked,) = _finite(everyone), _finite(picks)
        histograms.append((name, score_histogram(name, values, picked) if len(values) else None))
    influence, effort = _finite(data.influence, data.effort)
    picked_influence, picked_effort = _finite(data.picked_influence, data.picked_effort)
    scatter = None
    if len(influence):
        scatter = score_scatter(influence, effort, picked_influence, picked_effort)
    strata = data.selection.get("strata", []) if data.selection else []
    return {
        "histograms": histograms,
        "scatter": scatter,
        "shown": len(influence),
        "thinned": MAX_PICKS if len(picked_influence) > MAX_PICKS else 0,
        "tail": TAIL,
        "strata": strata,
        "strata_chart": strata_chart(strata) if strata else None,
        "facts": _selection_facts(data.selection) if data.selection else [],
    }


def _selection_facts(selection: SelectionReport) -> list[tuple[str, str]]:
    facts = [("method", str(selection.get("method", fmt.NOTHING)))]
    if "sees_validation" in selection:
        facts.append(("uses validation data", "yes" if selection["sees_validation"] else "no"))
    if "reference" in selection:
        facts.append(("reference", str(selection["reference"])))
    if "sampling" in selection:
        facts.append(("sampling", str(selection["sampling"])))
    normalise, prune = selection.get("normalise"), selection.get("hard_prune")
    if normalise:
        facts.append(("normalisation", str(normalise["method"])))
    if "lambda" in selection:
        facts.append(("λ, weight of effort", f"{selection['lambda']:g}"))
    if prune:
        facts.append(("hard prune", f"{prune['dropped']:,} samples, the top {fmt.percent(prune['share'])}"))
        if prune["cut_off"] is not None:
            facts.append(("cut-off score", fmt.number(prune["cut_off"])))
    excluded = selection.get("not_ok", 0) + selection.get("nonfinite", 0)
    facts += [
        ("usable samples", fmt.count(selection.get("usable", selection["samples"]))),
        ("excluded (no score)", fmt.count(excluded)),
        ("budget", fmt.count(selection["budget"])),
        ("chosen", fmt.count(selection["chosen"])),
        ("seed", str(selection.get("seed", fmt.NOTHING))),
    ]
    return facts


def _surrogate(metrics: JsonRecord | None) -> dict[str, object] | None:
    if not metrics:
        return None
    epochs = [epoch for epoch in records(metrics.get("epochs")) if "epoch" in epoch]
    best = number_or_none(metrics.get("best_epoch"))
    mark = (f"best, epoch {best:.0f}", best) if best is not None else None
    charts: list[tuple[str, Markup]] = []
    for title, values in (("training loss", _train_losses(epochs)), _validation(epochs)):
        if values:
            xs, ys = zip(*values, strict=True)
            line = Series(title, xs, ys, "line", dots=len(xs) <= 40)
            charts.append((title, line_chart(f"Surrogate: {title}", "epoch", [line], mark=mark)))
    return {"charts": charts, "facts": _scalars(metrics, ("epochs",))}


def _train_losses(epochs: Sequence[JsonRecord]) -> list[tuple[float, float]]:
    return _finite_points((epoch["epoch"], epoch.get("train_loss", epoch.get("loss"))) for epoch in epochs)


def _finite_points(points: Iterable[tuple[JsonValue, JsonValue]]) -> list[tuple[float, float]]:
    numbers = ((number_or_none(x), number_or_none(y)) for x, y in points)
    return [(x, y) for x, y in numbers if x is not None and y is not None and math.isfinite(y)]


def _validation(epochs: Sequence[JsonRecord]) -> tuple[str, list[tuple[float, float]]]:
    """Return the validation NDCG by epoch, wherever the epoch's record keeps it."""
    points: list[tuple[JsonValue, JsonValue]] = []
    name = "validation NDCG"
    for epoch in epochs:
        nested = epoch.get("valid")
        record = nested if isinstance(nested, Mapping) else epoch
        key = next((key for key in record if "ndcg" in key.lower()), None)
        if key is not None:
            metric = key.lower().removeprefix("valid").strip("_ /")
            name = f"validation {fmt.metric_name(metric)}"
            points.append((epoch["epoch"], record[key]))
    return name, _finite_points(points)


def _finetune(metrics: JsonRecord | None) -> dict[str, object] | None:
    if not metrics:
        return None
    series = []
    for key, name, css in (("train", "training", "faint"), ("valid", "validation", "line")):
        points = _finite_points((point["step"], point["loss"]) for point in records(metrics.get(key)))
        if points:
            xs, ys = zip(*points, strict=True)
            series.append(Series(f"{name} loss", xs, ys, css, dots=key == "valid"))
    untuned, best = number_or_none(metrics.get("untuned_loss")), number_or_none(metrics.get("best_step"))
    chart = None
    if series:
        level = ("untuned, validation", untuned) if untuned is not None else None
        mark = (f"best, step {best:.0f}", best) if best is not None else None
        chart = line_chart("Fine-tuning loss", "step", series, level=level, mark=mark)
    return {
        "chart": chart,
        "names": [(line.name, line.css) for line in series],
        "facts": _scalars(metrics, ("train", "valid")),
    }


def _scalars(metrics: JsonRecord, without: Sequence[str]) -> list[tuple[str, str]]:
    return list(fmt.flatten({key: value for key, value in metrics.items() if key not in without}))


def _example(example: JsonRecord) -> ExampleView:
    return {
        "user": example.get("user"),
        "history": [str(title) for title in _entries(example.get("history"))],
        "generated": str(example.get("generated") or ""),
        "targets": [str(title) for title in _entries(example.get("targets"))],
        "lists": [_shown_list(entry) for entry in records(example.get("lists"))],
    }


def _shown_list(entry: JsonRecord) -> ShownList:
    return {
        "model": str(entry["model"]),
        "rank": number_or_none(entry.get("rank")),
        "titles": [{"title": str(row["title"]), "hit": bool(row["hit"])} for row in records(entry.get("titles"))],
    }


def _stages(stages: Sequence[JsonRecord]) -> list[StageView]:
    longest = max((number_or_none(stage.get("seconds")) or 0 for stage in stages), default=0)
    rows: list[StageView] = []
    for stage in stages:
        seconds, status = number_or_none(stage.get("seconds")), str(stage.get("status", ""))
        rows.append(
            {
                "name": str(stage["name"]),
                "time": format_seconds(seconds) if seconds is not None else fmt.NOTHING,
                "width": round(100 * seconds / longest, 1) if seconds and longest else 0,
                "status": status,
                "idle": status in _IDLE,
            }
        )
    return rows
