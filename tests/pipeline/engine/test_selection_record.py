"""The report of a selection, as runs keep it."""

from __future__ import annotations

from pathlib import Path

from cluster.storage import Storage
from pipeline.engine.selection_record import SELECTION_FILE, read_selection


def test_a_report_of_an_earlier_version_opens_without_the_newer_keys(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path)
    folder.write_json(SELECTION_FILE, {"method": "random", "samples": 100, "chosen": 2, "a_key_of_one's_own": 1})
    found = read_selection(folder)
    assert found["chosen"] == 2
    assert found.get("warnings", []) == []
