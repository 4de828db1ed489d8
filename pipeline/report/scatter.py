"""Plot influence against effort: points for few samples, a density for many, the picks on top."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pipeline.report.charts import axis_range
from pipeline.report.svg import Plot, picture

MAX_POINTS = 5000  # More samples than this are binned.
MAX_PICKS = 2500  # More picks than this are thinned.
SHADES = 6
COLUMNS, ROWS = 56, 40
HEIGHT = 330

Array = npt.NDArray[np.floating]


def score_scatter(influence: Array, effort: Array, picked_influence: Array, picked_effort: Array) -> Markup:
    """Plot the samples [N] in grey and the picks [M] in colour; values beyond an axis are drawn at its end."""
    plot = Plot.of(axis_range(influence), axis_range(effort), HEIGHT)
    if len(influence) > MAX_POINTS:
        cloud = _density(plot, influence, effort)
    else:
        cloud = _points(plot, influence, effort, "all-points")
    keep = np.arange(len(picked_influence))
    if len(keep) > MAX_PICKS:
        keep = np.linspace(0, len(keep) - 1, MAX_PICKS).astype(int)
    picks = _points(plot, picked_influence[keep], picked_effort[keep], "picks-points")
    body = plot.y_axis() + cloud + picks + plot.x_axis("influence")
    description = (
        f"{len(influence):,} samples by influence (across) and effort (up), "
        f"correlation {_correlation(influence, effort)}; {len(picked_influence):,} picks on top"
    )
    return picture("Influence against effort", description, body, HEIGHT)


def _correlation(influence: Array, effort: Array) -> str:
    """Format Pearson's correlation of the values that the axes show."""
    if len(influence) < 3:
        return "unknown"
    clipped = [np.clip(column, *axis_range(column)) for column in (influence, effort)]
    if min(float(column.std()) for column in clipped) == 0:
        return "undefined"
    return f"{np.corrcoef(clipped[0], clipped[1])[0, 1]:.2f}"


def _places(plot: Plot, influence: Array, effort: Array) -> tuple[Array, Array]:
    """Return picture coordinates, clipped to the plot."""
    across = (np.clip(influence, plot.x.low, plot.x.high) - plot.x.low) / (plot.x.high - plot.x.low)
    up = (np.clip(effort, plot.y.low, plot.y.high) - plot.y.low) / (plot.y.high - plot.y.low)
    return (
        plot.x.start + across * (plot.x.end - plot.x.start),
        plot.y.start + up * (plot.y.end - plot.y.start),
    )


def _points(plot: Plot, influence: Array, effort: Array, css: str) -> str:
    """Draw all points as one path of zero-length strokes with round ends, a dozen bytes per point."""
    xs, ys = _places(plot, influence, effort)
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(xs, ys, strict=True))
    return f'<path class="{css}" d="{path}"/>'


def _density(plot: Plot, influence: Array, effort: Array) -> str:
    """Draw bins shaded by the logarithm of their count, one path per shade."""
    xs, ys = _places(plot, influence, effort)
    counts, x_edges, y_edges = np.histogram2d(
        xs, ys, [COLUMNS, ROWS], [(plot.x.start, plot.x.end), (plot.y.end, plot.y.start)]
    )
    shade = np.ceil(np.log1p(counts) / np.log1p(counts.max()) * SHADES).astype(int)
    width, height = x_edges[1] - x_edges[0], y_edges[1] - y_edges[0]
    paths = []
    for level in range(1, SHADES + 1):
        cells = "".join(
            f"M{x_edges[column]:.1f} {y_edges[row]:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"
            for column, row in np.argwhere(shade == level)
        )
        paths.append(f'<path class="all" opacity="{level / SHADES:.2f}" d="{cells}"/>' if cells else "")
    return "".join(paths)
