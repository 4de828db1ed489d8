"""Show a comparison on one page: accuracy by size for every selector, the table of differences, and the cost."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report.charts import Series, line_chart
from pipeline.report.number_format import metric_name
from pipeline.report.render import page_style, page_template
from pipeline.studies.compare.comparison_rows import TextRow, difference_rows, slice_rows, summary_rows
from pipeline.studies.compare.outcomes import TEST, ZERO_SHOT
from pipeline.studies.compare.records import ArmRow, ComparisonRecord, DifferenceKind
from pipeline.studies.compare.verdict import METRIC, conclusions

_KINDS: tuple[DifferenceKind, ...] = ("difference", "from_zero_shot")


def comparison_page(result: ComparisonRecord) -> str:
    """Return the page of a comparison as one HTML file, without scripts or outside resources."""
    models = list(dict.fromkeys(row["model"] for row in result["rows"]))
    return page_template("pipeline.studies.compare").render(
        style=page_style(),
        result=result,
        metric=metric_name(METRIC),
        charts=[(model, size_charts(result["rows"], model, result["control"])) for model in models],
        summary=_table(summary_rows(result)),
        differences=_table(difference_rows(result)),
        slices=[_table(slice_rows(result, kind)) for kind in _KINDS],
        conclusions=conclusions(result),
    )


def _table(rows: Sequence[TextRow]) -> tuple[list[str], list[list[str | int | float]]]:
    return (list(rows[0]), [list(row.values()) for row in rows]) if rows else ([], [])


def size_charts(rows: Sequence[ArmRow], model: str, control: str) -> list[tuple[str, Markup]]:
    """Chart each selector's accuracy by coreset size, beside that of the control and of the untuned model."""
    curves: dict[str, list[tuple[float, float]]] = {}
    untuned = None
    for row in rows:
        found = row["metrics"].get(TEST, {}).get(METRIC)
        if row["model"] != model or found is None:
            continue
        if row["selector"] == ZERO_SHOT:
            untuned = (ZERO_SHOT, found["value"])
        elif row["size"] is not None:
            curves.setdefault(row["selector"], []).append((row["samples"], found["value"]))
    values = [y for points in curves.values() for _, y in points]
    charts = []
    for name, points in curves.items():
        if name == control and len(curves) > 1:
            continue
        lines = [_line(name, points, "line")]
        if control in curves and name != control:
            lines.insert(0, _line(control, curves[control], "faint"))
        title = f"{model} {name}: {metric_name(METRIC)}"
        charts.append((name, line_chart(title, "samples", lines, level=untuned, values=values)))
    return charts


def _line(name: str, points: Sequence[tuple[float, float]], css: str) -> Series:
    xs, ys = zip(*sorted(points), strict=True)
    return Series(name, xs, ys, css, dots=True)
