from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.engine.selection_record import StratumRow
from pipeline.report.charts import (
    IntervalRow,
    Series,
    interval_chart,
    line_chart,
    score_histogram,
    strata_chart,
    thin,
)
from pipeline.report.number_format import MINUS
from pipeline.report.scatter import MAX_POINTS, score_scatter
from pipeline.report.svg import Scale, tick_label


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    numbers = [float(n) for n in re.findall(r' (?:x|y|width|height)="([^"]+)"', svg)]
    assert np.isfinite(numbers).all()
    return root


def bars(svg: str, css: str) -> list[dict[str, str]]:
    return [node.attrib for node in parsed(svg).iter("rect") if node.attrib["class"] == css]


@pytest.mark.parametrize("limits", [(0, 1), (-0.0031, 0.0052), (0, 4300), (2.2, 2.9), (1e7, 3e7)])
def test_ticks_are_few_round_and_inside(limits):
    ticks = Scale(limits[0], limits[1], 0, 100).ticks()
    assert 2 <= len(ticks) <= 7
    assert all(limits[0] - 1e-9 <= tick <= limits[1] * (1 + 1e-9) for tick in ticks)
    assert len({tick_label(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (-0.005, f"{MINUS}0.005"),
        (25_000, "25k"),
        (3e6, "3M"),
        (1e-7, f"1e{MINUS}07"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_tick_labels(value, expected):
    assert tick_label(value) == expected


def test_histogram_shares_of_everyone_add_up_to_one():
    values = np.random.default_rng(0).standard_cauchy(5000)
    svg = score_histogram("influence", values, values[:50])
    tips = [node.findtext("title") or "" for node in parsed(svg).iter("rect")]
    shares = [float(re.search(r": ([\d.]+)% of all", tip)[1]) for tip in tips]  # type: ignore[index]
    assert sum(shares) == pytest.approx(100, abs=2.5)


def test_strata_bars_are_in_proportion():
    strata: list[StratumRow] = [
        {"index": 0, "low": 0.0, "high": 0.5, "samples": 10, "picks": 4},
        {"index": 1, "low": 0.5, "high": 1.0, "samples": 40, "picks": 4},
    ]
    svg = strata_chart(strata)
    small, large = (float(bar["height"]) for bar in bars(svg, "all"))
    assert large == pytest.approx(4 * small, rel=0.01)
    assert len({bar["height"] for bar in bars(svg, "picks")}) == 1
    assert "2 of 2 strata" in svg


def test_scatter_bins_many_points_and_keeps_few():
    generator = np.random.default_rng(0)
    few, many = generator.normal(size=(2, 300)), generator.normal(size=(2, MAX_POINTS * 10))
    assert score_scatter(*few, *few[:, :9]).count("h0") == 309
    binned = score_scatter(*many, *many[:, :9])
    parsed(binned)
    assert binned.count("h0") == 9


def test_lines_are_thinned_to_means_and_keep_their_ends():
    points = thin(range(1000), [1.0] * 1000)
    assert len(points) == 240
    assert {y for _, y in points} == {1.0}
    assert points[0][0] < 5
    assert points[-1][0] > 994


def test_line_chart_names_level_and_mark():
    svg = line_chart(
        "Loss",
        "step",
        [Series("training", [1, 2], [3.0, 2.0], "line", dots=True)],
        ("untuned", 4.0),
        ("best", 2),
    )
    texts = [node.text for node in parsed(svg).iter("text")]
    assert {"untuned", "best", "step"} <= set(texts)
    parsed(line_chart("One point", "step", [Series("training", [1], [0.0], "line")]))


def test_interval_chart_escapes_names_and_starts_at_zero():
    svg = interval_chart("Recall@10", [IntervalRow("<a> & b", 0.2, 0.1, 0.3, "focus")], guide=0.15)
    root = parsed(svg)
    assert "<a> & b" in [node.text for node in root.iter("text")]
    assert "0" in [node.text for node in root.iter("text")]
