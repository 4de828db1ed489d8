from __future__ import annotations

from pipeline.driver.run_tables import headline_row


def test_the_closing_table_is_at_ten_or_what_stands_for_it() -> None:
    values = {"mean": 0.25, "low": 0.1, "high": 0.4}
    for cutoffs, shown in (((5, 10, 50), 10), ((1, 3, 50), 3), ((20, 50), 20)):
        metrics = {f"{name}@{cutoff}": values for cutoff in cutoffs for name in ("recall", "ndcg", "mrr", "map")}
        assert headline_row("m", metrics) == {
            "model": "m",
            f"recall@{shown}": "0.2500 [0.1000, 0.4000]",
            f"ndcg@{shown}": "0.2500 [0.1000, 0.4000]",
        }
