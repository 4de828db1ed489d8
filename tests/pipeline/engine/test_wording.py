"""Words for messages."""

from __future__ import annotations

from pipeline.engine.wording import counted


def test_a_count_and_its_noun_agree() -> None:
    assert [counted(count, "row") for count in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
    assert counted(1, "item has", "items have") == "1 item has"
    assert counted(2, "item has", "items have") == "2 items have"
