from __future__ import annotations

from pipeline.report import ReportData, ranking_section
from pipeline.report.number_format import NOTHING
from pipeline.report.report_data import Metrics


def run_of(ours, control) -> ReportData:
    return ReportData(
        "log",
        metrics={"ours": {"ndcg@10": ours}, "random": {"ndcg@10": control}},
        focus="ours",
        baseline="random",
    )


def value(mean: float, width: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - width, "high": mean + width}


def test_verdict_says_ahead_or_behind_only_where_intervals_part():
    assert "ahead of" in ranking_section.verdict(run_of(value(0.5, 0.1), value(0.2, 0.1)))
    assert "behind" in ranking_section.verdict(run_of(value(0.2, 0.1), value(0.5, 0.1)))
    assert "overlap, so" in ranking_section.verdict(run_of(value(0.3, 0.1), value(0.2, 0.1)))
    assert "may be chance" in ranking_section.verdict(run_of(0.5, 0.2))


def test_verdict_needs_a_model_and_copes_without_a_control():
    assert ranking_section.verdict(ReportData("log")) == ""
    alone = ReportData("log", metrics={"ours": {"recall@10": 0.25}}, focus="ours")
    assert ranking_section.verdict(alone) == "ours reaches Recall@10 0.2500."


def test_verdict_escapes_labels():
    data = ReportData("log", metrics={"<b>": {"recall@10": 0.25}}, focus="<b>")
    assert "<b>" not in ranking_section.verdict(data)


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
