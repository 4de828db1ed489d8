from __future__ import annotations

from collections.abc import Mapping

from pipeline.report import ReportData, ranking_section, render_report
from pipeline.report.number_format import MINUS, NOTHING
from pipeline.report.report_data import Gain, Metrics
from training.ranking.ranking_metrics import Interval


def run_of(low: float, high: float, *more: Gain) -> ReportData:
    first = Gain("tuning", "the untuned LLM", "ndcg@5", 0.3, 0.2, Interval((low + high) / 2, low, high, 9))
    return ReportData("log", gains=[first, *more], users_evaluated=1200)


def value(mean: float, width: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - width, "high": mean + width}


def test_the_first_sentence_goes_by_the_paired_interval():
    gained, _ = ranking_section.headline(run_of(0.05, 0.15))
    assert gained == "Tuning gained: NDCG@5 +0.1000 (+0.0500 to +0.1500) against the untuned LLM."
    harmed, more = ranking_section.headline(run_of(-0.15, -0.05))
    assert harmed.startswith(f"Tuning did harm: NDCG@5 {MINUS}0.1000 ({MINUS}0.1500 to {MINUS}0.0500) against")
    assert more.startswith("NDCG@5 is 0.3000; it is 0.2000 for the untuned LLM. Differences are over the same 1,200")
    for ends in ((-0.1, 0.1), (0.0, 0.1), (0.0, 0.0), (1e-17, 1e-16)):
        assert ranking_section.headline(run_of(*ends))[0].startswith("Tuning gained nothing beyond chance: NDCG@5")


def test_the_selection_is_a_clause_of_its_own():
    random = Gain("the selection", "a random coreset", "ndcg@5", 0.3, 0.4, Interval(-0.1, -0.2, -0.05, 9))
    gained, more = ranking_section.headline(run_of(0.05, 0.15, random))
    numbers = f"{MINUS}0.1000 ({MINUS}0.2000 to {MINUS}0.0500)"
    assert gained.endswith(f"the untuned LLM; the selection did harm: {numbers} against a random coreset.")
    assert "0.2000 for the untuned LLM and 0.4000 for a random coreset." in more


def test_the_first_sentence_needs_a_model_and_copes_without_another():
    assert ranking_section.headline(ReportData("log")) == ("", "")
    alone = ReportData("log", metrics={"ours": {"recall@10": 0.25}}, focus="ours")
    assert ranking_section.headline(alone) == ("ours reaches Recall@10 0.2500.", "")


def test_labels_are_escaped_in_the_first_sentence():
    data = ReportData("log", metrics={"<b>": {"recall@10": 0.25}}, focus="<b>")
    assert "<b>" not in render_report(data)
    assert "&lt;b&gt; reaches" in render_report(data)


def test_the_first_table_is_at_ten_or_what_stands_for_it():
    row: dict[str, float | Mapping[str, float]] = {
        f"{name}@{cutoff}": 0.1 for cutoff in (1, 5, 20) for name in ("recall", "ndcg", "mrr", "map")
    }
    assert ranking_section.accuracy_keys({"a": row}) == ["recall@5", "ndcg@5", "mrr@5", "map@5"]
    assert ranking_section.headline_keys({"a": row}) == ["recall@5", "ndcg@5"]
    assert ranking_section.accuracy_keys({}) == ranking_section.headline_keys({}) == []


def test_lists_are_shown_at_that_cutoff_with_gaps():
    figures = {"distinct@5": 1234.0, "coverage@5": 0.5, "novelty@5": 7.25, "popularity@5": 31.0, "distinct@20": 9.0}
    data = ReportData("log", lists={"a": {**figures, "outside": 0.005}, "b": {"distinct@5": 3.0}}, focus="a")
    table = ranking_section.list_table(data)
    assert table is not None
    assert (table.cutoff, len(table.columns)) == (5, 5)
    assert table.rows == [
        ("a", True, ["1,234", "50.0%", "7.25", "31", "0.50%"]),
        ("b", False, ["3", NOTHING, NOTHING, NOTHING, NOTHING]),
    ]
    assert ranking_section.list_table(ReportData("log")) is None


def test_columns_go_by_cutoff():
    metrics = {"a": {"ndcg@20": 0.1, "recall@20": 0.2, "ndcg@5": 0.1}, "b": {"recall@5": 0.1, "users": 7}}
    assert ranking_section.metric_keys(metrics) == ["ndcg@5", "recall@5", "ndcg@20", "recall@20"]


def test_best_of_a_column_is_marked_and_gaps_stay():
    metrics: Metrics = {
        "a": {"recall@10": 0.1},
        "b": {"recall@10": value(0.2, 0.05)},
        "c": {"recall@10": float("nan")},
    }
    table = ranking_section.table(metrics, focus="b")
    (a, _, (cell_a,)), (b, b_focus, (cell_b,)), (_, _, (cell_c,)) = table.rows
    assert (a, b, b_focus) == ("a", "b", True)
    assert cell_a is not None
    assert not cell_a.best
    assert cell_b == ranking_section.Cell("0.2000", f"0.1500{NOTHING}0.2500", True)
    assert cell_c is None
