"""The report's charts: each takes numbers and returns one inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pipeline.engine.selection_record import StratumRow
from pipeline.report import number_format as fmt
from pipeline.report.svg import WIDTH, Plot, Scale, bar, describe_range, picture, polyline, text

TAIL = 0.5  # Percent of the samples at each end that an axis leaves out.
MAX_LINE_POINTS = 240

Array = npt.NDArray[np.floating]


def axis_range(values: Array) -> tuple[float, float]:
    """Return the range of an axis: all values but half a percent at each end, so that outliers hide nothing."""
    low, high = np.percentile(values, [TAIL, 100 - TAIL])
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))


def score_histogram(name: str, everyone: Array, picks: Array) -> Markup:
    """Draw the distribution of a score over all samples [N] (bars) and over the picks [M] (line), as shares."""
    low, high = axis_range(everyone)
    plot_range = Plot.of((low, high), (0, 1), 230).x
    edges = np.linspace(plot_range.low, plot_range.high, 41)
    shares = [_shares(everyone, edges), _shares(picks, edges)]
    top = max(float(part.max(initial=0)) for part in shares) * 1.05
    plot = Plot.of((plot_range.low, plot_range.high), (0, top or 1), 230)
    bars = [
        bar(
            plot.x(left) + 0.5,
            plot.y(share),
            plot.x(right) - plot.x(left) - 1,
            plot.y.start - plot.y(share),
            "all",
            f"{fmt.number(left)} to {fmt.number(right)}: {share:.1%} of all, {picked:.1%} of the picks",
        )
        for left, right, share, picked in zip(edges[:-1], edges[1:], *shares, strict=True)
        if share or picked
    ]
    steps = ""
    if len(picks):
        heights = [plot.y(share) for share in shares[1]]
        points = [(plot.x(edges[0]), plot.y.start)]
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            points += [(plot.x(left), height), (plot.x(right), height)]
        steps = polyline([*points, (plot.x(edges[-1]), plot.y.start)], "picks-step")
    description = (
        f"{len(everyone):,} samples, {describe_range(name, float(everyone.min()), float(everyone.max()))}, "
        f"median {fmt.number(float(np.median(everyone)))}"
        + (f"; median of the {len(picks):,} picks {fmt.number(float(np.median(picks)))}" if len(picks) else "")
    )
    body = plot.y_axis(percent=True) + "".join(bars) + steps + plot.x_axis(name)
    return picture(f"{name} of all samples and of the picks", description, body, 230)


def _shares(values: Array, edges: Array) -> Array:
    """Return the share of the values in each bin; values beyond the edges count in the outermost bins."""
    inside = np.clip(values, edges[0], edges[-1])
    return np.histogram(inside, edges)[0] / max(len(values), 1)


def strata_chart(strata: Sequence[StratumRow]) -> Markup:
    """Draw the samples of each stratum above and the picks below, over the same axis of scores."""
    x_range = (float(strata[0]["low"]), float(strata[-1]["high"]))
    upper = Plot.of(x_range, (0, max(s["samples"] for s in strata) * 1.05 or 1), 150, bottom=10)
    lower = Plot.of(x_range, (0, max(s["picks"] for s in strata) * 1.1 or 1), 270, top=168)
    parts = []
    for place, stratum in enumerate(strata):
        left = upper.x.start + (upper.x.end - upper.x.start) * place / len(strata)
        width = (upper.x.end - upper.x.start) / len(strata)
        scores = describe_range("score", stratum["low"], stratum["high"])
        held = f"{stratum['samples']:,} samples, {stratum['picks']:,} picks"
        tip = f"stratum {stratum['index']}, {scores}: {held}"
        for plot, value, css in ((upper, stratum["samples"], "all"), (lower, stratum["picks"], "picks")):
            height = plot.y(value)
            parts.append(bar(left + 0.5, height, width - 1, plot.y.start - height, css, tip))
    filled = sum(1 for stratum in strata if stratum["samples"])
    largest = max(strata, key=lambda stratum: stratum["samples"])
    description = (
        f"{filled} of {len(strata)} strata hold samples; the largest, number {largest['index']}, "
        f"holds {largest['samples']:,} and gives {largest['picks']:,} picks"
    )
    base = f'<path class="axis" d="M{upper.x.start} {upper.y.start}H{upper.x.end}"/>'
    body = upper.y_axis(about=3) + lower.y_axis(about=3) + base + "".join(parts) + lower.x_axis("combined score")
    return picture("Strata: samples and picks", description, body, 270)


@dataclass(frozen=True)
class Series:
    """A line: its name, points and style class, and whether the points are marked."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    css: str
    dots: bool = False


def line_chart(
    title: str,
    x_label: str,
    series: Sequence[Series],
    level: tuple[str, float] | None = None,
    mark: tuple[str, float] | None = None,
    values: Sequence[float] = (),
) -> Markup:
    """Draw lines over a common axis, with a horizontal `level` and a vertical `mark`, each (name, value).

    The vertical axis also spans `values`: charts that are meant to be compared are given the same ones.
    """
    xs = [x for line in series for x in line.xs]
    ys = [y for line in series for y in line.ys] + ([level[1]] if level else []) + list(values)
    span = (max(ys) - min(ys)) or abs(max(ys)) or 1.0
    # Leave room above the lines for the names of mark and level.
    plot = Plot.of((min(xs), max(xs)), (min(ys) - 0.06 * span, max(ys) + 0.16 * span), 230)
    parts = [plot.y_axis()]
    name_height = plot.y.end + 10
    if level:
        y = plot.y(level[1])
        parts.append(f'<path class="level" d="M{plot.x.start:.1f} {y:.1f}H{plot.x.end:.1f}"/>')
        parts.append(text(plot.x.end, y - 5, level[0], "note", "end"))
        if abs(y - 9 - name_height) < 18:
            name_height = y + 15
    if mark:
        x = plot.x(mark[1])
        side, anchor = (-6, "end") if x > (plot.x.start + plot.x.end) / 2 else (6, "start")
        parts.append(f'<path class="mark" d="M{x:.1f} {plot.y.start:.1f}V{plot.y.end:.1f}"/>')
        parts.append(text(x + side, name_height, mark[0], "note", anchor))
    for line in series:
        points = [(plot.x(x), plot.y(y)) for x, y in thin(line.xs, line.ys)]
        parts.append(polyline(points, line.css))
        if line.dots:
            parts += [
                f'<circle class="{line.css}-dot" cx="{cx:.1f}" cy="{cy:.1f}" r="3">'
                f"<title>{x_label} {fmt.number(x)}: {fmt.number(y)}</title></circle>"
                for (cx, cy), (x, y) in zip(points, thin(line.xs, line.ys), strict=True)
            ]
    description = "; ".join(
        f"{line.name} from {fmt.number(line.ys[0])} to {fmt.number(line.ys[-1])}" for line in series if line.ys
    )
    return picture(title, description, "".join(parts) + plot.x_axis(x_label), 230)


def thin(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Reduce points to at most `MAX_LINE_POINTS`, each the mean of a run of equal length."""
    points = np.column_stack([np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)])
    parts = np.array_split(points, min(len(points), MAX_LINE_POINTS)) if len(points) else []
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)]


@dataclass(frozen=True)
class IntervalRow:
    """A model's mean of a metric, with the ends of its interval if it has one."""

    name: str
    mean: float
    low: float
    high: float
    css: str


def interval_chart(metric: str, rows: Sequence[IntervalRow], guide: float | None = None) -> Markup:
    """Draw means and intervals of a metric from zero, one row per model, with a vertical line at `guide`."""
    height = 38 * len(rows) + 34
    scale = Scale(0, max(max(row.high, row.mean) for row in rows) * 1.04 or 1, 10, WIDTH - 66)
    base = height - 24
    parts = [
        f'<path class="grid" d="M{scale(tick):.1f} 4V{base}"/>'
        + text(scale(tick), base + 16, f"{tick:.4g}", "tick", "middle")
        for tick in scale.ticks()
    ]
    if guide is not None:
        parts.append(f'<path class="mark" d="M{scale(guide):.1f} 4V{base}"/>')
    for place, row in enumerate(rows):
        y = 38 * place + 30
        tip = f"{row.name}: {row.mean:.4f}, from {row.low:.4f} to {row.high:.4f}"
        parts.append(
            text(10, y - 11, row.name, f"name {row.css}-name")
            + f'<g class="{row.css}"><title>{Markup.escape(tip)}</title>'
            + f'<path class="whisker" d="M{scale(row.low):.1f} {y}H{scale(row.high):.1f}"/>'
            + f'<circle cx="{scale(row.mean):.1f}" cy="{y}" r="5"/></g>'
            + text(WIDTH, y + 4, f"{row.mean:.4f}", f"value {row.css}-name", "end")
        )
    description = "; ".join(f"{row.name} {row.mean:.4f} ({row.low:.4f} to {row.high:.4f})" for row in rows)
    return picture(f"{metric} by model", description, "".join(parts), height)
