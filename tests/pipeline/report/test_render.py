from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pipeline.engine.selection_record import SelectionReport
from pipeline.report import ReportData, render_report
from pipeline.report.number_format import MINUS, NOTHING
from tests.pipeline.report.sample_run import HOSTILE, full_run

VOID = {"meta", "link", "br", "img", "hr"}


class Outline(HTMLParser):
    """Checks that elements nest and close, and collects what the tests ask about."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.described: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        self.described += (values.get("aria-labelledby") or "").split()
        self.references += [values[name] for name in ("src", "href", "xlink:href") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def visible(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(full_run())


def test_well_formed_with_unique_ids_and_described_pictures(page):
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.described) <= set(outline.ids)
    assert outline.tags.count("svg") == outline.tags.count("desc") == 9


def test_refers_to_nothing_outside_and_runs_no_script(page):
    outline = Outline(page)
    assert "script" not in outline.tags
    assert all(reference.startswith("#") or reference == "data:," for reference in outline.references)
    assert not re.search(r"https?:|@import|url\(", page)


def test_text_of_the_run_is_escaped_wherever_it_shows(page):
    assert HOSTILE not in page
    assert "<script" not in page
    assert Outline(page).visible.count("alert('x')") >= 6


def test_says_first_what_was_kept_and_how_it_compares(page):
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.S)
    assert lead is not None
    strong = re.search(r"<strong>(.*?)</strong>", lead[1])
    assert strong is not None
    assert strong[1] == (
        "Tuning gained: NDCG@10 +0.0069 (+0.0012 to +0.0131) against the untuned LLM; the selection gained nothing "
        f"beyond chance: +0.0006 ({MINUS}0.0040 to +0.0060) against a random coreset."
    )
    assert "400 of 8,000 samples kept, 5.0%." in lead[1]
    assert "NDCG@10 is 0.0164; it is 0.0095 for the untuned LLM and 0.0158 for a random coreset." in lead[1]
    assert "over the same 600 test users" in lead[1]


def test_without_a_random_coreset_it_says_that_the_selection_is_not_judged():
    alone = render_report(full_run(400, gains=full_run(400).gains[:1]))
    assert "No random coreset of this size was tuned in this run" in alone
    assert "No random coreset" not in render_report(full_run(400))
    assert "No random coreset" not in render_report(full_run(400, gains=full_run(400).gains[1:]))


@pytest.mark.parametrize(
    "expected",
    [
        "Recall@50",
        "MRR@10",
        "MAP@50",
        "All cut-offs",
        "What the lists show: the first 10 of each user",
        "texts that are no title",
        "25.0%",
        "target at 3",
        "2 of the test users, drawn by hash",
        f"0.0148{NOTHING}0.0181",
        "Targets: warm",
        "5 min 00 s",
        "missing title",
        "versions · torch",
        "hit",
    ],
)
def test_shows(page, expected):
    assert expected in Outline(page).visible


def test_an_empty_run_is_a_page_of_things_not_run():
    outline = Outline(render_report(ReportData(name="early")))
    assert outline.visible.count("not run") == 11
    assert "No coreset has been selected yet." in outline.visible
    assert "svg" not in outline.tags


PIECES = [
    "statistics", "stages", "surrogate", "influence", "effort", "picked_influence", "picked_effort",
    "selection", "finetune", "metrics", "slices", "lists", "gains", "focus", "baseline", "examples", "provenance",
]  # fmt: skip


@pytest.mark.parametrize("missing", PIECES)
def test_any_piece_may_be_missing(missing):
    default = ReportData.__dataclass_fields__[missing]
    value = default.default if default.default_factory is not dict else {}
    Outline(render_report(full_run(400, **{missing: value})))


def test_random_selection_has_no_strata():
    report: SelectionReport = {"method": "random", "seed": 1, "samples": 100, "usable": 100, "budget": 5, "chosen": 5}
    page = render_report(ReportData(name="control", selection=report))
    assert "does not stratify" in Outline(page).visible


def test_selection_warnings_are_shown_once():
    selection = full_run(400).selection
    assert selection is not None
    squeezed = {**selection, "warnings": ["95.0% of the samples fall into stratum 0", "same"]}
    page = render_report(full_run(400, selection=squeezed, warnings=["same"]))
    assert "2 warnings" in page
    assert "95.0% of the samples" in page


def test_scores_without_spread_or_finite_values_are_drawn():
    constant = np.full(50, 2.0, dtype=np.float32)
    page = render_report(full_run(400, influence=constant, effort=np.full(50, np.nan, dtype=np.float32)))
    outline = Outline(page)
    assert "Effort: not run." in outline.visible
    assert not re.search(r"\bnan\b", page)


def test_size_stays_small_whatever_the_log():
    assert len(render_report(full_run(200_000))) < 400_000
