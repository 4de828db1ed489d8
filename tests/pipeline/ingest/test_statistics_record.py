"""The statistics of a log, as runs keep them."""

from __future__ import annotations

from pathlib import Path

from cluster.storage import Storage
from pipeline.ingest.statistics_record import STATISTICS_FILE, read_statistics, train_count


def test_statistics_of_an_earlier_version_open_without_the_newer_keys(tmp_path: Path) -> None:
    data = Storage.at(tmp_path)
    data.write_json(STATISTICS_FILE, {"users": 3, "samples": {"train": 7, "valid": 2, "test": 1}})
    assert train_count(data) == 7
    assert read_statistics(data).get("warnings", []) == []
