"""The parts of SVG that the charts share: scales with round ticks, axes, and the accessible outer element.

Colours and fonts are classes of the page's style sheet, so a chart follows the reader's colour scheme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from pipeline.report.number_format import MINUS, number

WIDTH = 440


@dataclass(frozen=True)
class Scale:
    """A linear map from the data range `low` to `high` to the picture range `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return self.start + (value - self.low) / span * (self.end - self.start) if span else self.start

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values within the range, roughly `about` of them."""
        span = self.high - self.low
        if not span > 0:
            return [self.low]
        raw = span / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = min((factor * power for factor in (1, 2, 5, 10) if factor * power >= raw), default=10 * power)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]


@dataclass(frozen=True)
class Plot:
    """The rectangle between the axes."""

    x: Scale
    y: Scale

    @classmethod
    def of(
        cls,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        height: float,
        top: float = 10,
        bottom: float = 36,
    ) -> Plot:
        """Return a plot of the usual width. `height` is the picture's; `top` and `bottom` are the margins."""
        return cls(Scale(*_wide(x_range), 50, WIDTH - 10), Scale(*_wide(y_range), height - bottom, top))

    def x_axis(self, label: str, percent: bool = False) -> str:
        base = self.y.start
        marks = [text(self.x(tick), base + 16, tick_label(tick, percent), "tick", "middle") for tick in self.x.ticks()]
        middle = (self.x.start + self.x.end) / 2
        rule = f'<path class="axis" d="M{self.x.start:.1f} {base:.1f}H{self.x.end:.1f}"/>'
        return rule + "".join(marks) + text(middle, base + 31, label, "label", "middle")

    def y_axis(self, percent: bool = False, about: int = 4) -> str:
        """Draw grid lines with their values; the quantity belongs in the chart's heading."""
        parts = []
        for tick in self.y.ticks(about):
            height = self.y(tick)
            parts.append(f'<path class="grid" d="M{self.x.start:.1f} {height:.1f}H{self.x.end:.1f}"/>')
            parts.append(text(self.x.start - 6, height + 4, tick_label(tick, percent), "tick", "end"))
        return "".join(parts)


def _wide(limits: tuple[float, float]) -> tuple[float, float]:
    """Widen a range that is a single point."""
    low, high = limits
    if high > low:
        return low, high
    room = abs(low) * 0.5 or 0.5
    return low - room, high + room


def tick_label(value: float, percent: bool = False) -> str:
    if percent:
        return f"{value * 100:.3g}%"
    if value == 0:
        return "0"
    magnitude = abs(value)
    if 1e4 <= magnitude < 1e9:
        unit, name = (1e3, "k") if magnitude < 1e6 else (1e6, "M")
        shown = f"{value / unit:.4g}{name}"
    else:
        shown = f"{value:.4g}" if 1e-3 <= magnitude < 1e4 else f"{value:.2g}"
    return shown.replace("-", MINUS)


def text(x: float, y: float, content: str, css: str, anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def polyline(points: Sequence[tuple[float, float]], css: str) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{css}" d="M{path}"/>' if points else ""


def bar(x: float, y: float, width: float, height: float, css: str, tip: str) -> str:
    shape = f'class="{css}" x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
    return f"<rect {shape}><title>{escape(tip)}</title></rect>"


def picture(title: str, description: str, body: str, height: float) -> Markup:
    """Wrap a chart in the outer element, scaled to its column, with a title and a description for screen readers."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{slug}-t {slug}-d">'
        f'<title id="{slug}-t">{escape(title)}</title><desc id="{slug}-d">{escape(description)}</desc>'
        f"{body}</svg>"
    )


def describe_range(name: str, low: float, high: float) -> str:
    return f"{name} from {number(low)} to {number(high)}"
