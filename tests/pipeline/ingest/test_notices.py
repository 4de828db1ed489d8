"""What a user is told about an ingested log."""

from __future__ import annotations

from typing import cast

import pytest

from pipeline.ingest.notices import say, warn_of_repeats
from pipeline.ingest.statistics import IngestTally
from pipeline.ingest.statistics_record import IngestStatistics


def _statistics(repeated: int) -> IngestStatistics:
    tally = IngestTally.for_items(3)
    tally.lengths.update({4: 1})
    totals = {
        **tally.statistics(),
        "targets": {"valid": 10, "test": 10},
        "repeated_targets": {"valid": 2, "test": repeated},
        "interactions": {"kept": 2_000},
        "items": {"all": 3},
        "samples": {"train": 1},
        "dropped": {"no_title": 1, "duplicate": 0},
        "warnings": ["Beware."],
    }
    return cast(IngestStatistics, totals)


def test_repeats_are_warned_of_for_each_part(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="dealrec.ingest"):
        warn_of_repeats(_statistics(5))
        assert caplog.text == ""
        warn_of_repeats(_statistics(6))
    (record,) = caplog.records
    assert "6 of 10 test targets (60%)" in record.message
    assert "evaluate.mask_seen: false" in record.message


def test_sizes_agree_with_their_nouns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="dealrec.ingest"):
        say(_statistics(0))
    assert [record.message for record in caplog.records] == [
        "1 user, 3 items, 2,000 interactions; 1 train sample",
        "dropped 1 interaction: no title",
        "Beware.",
    ]
