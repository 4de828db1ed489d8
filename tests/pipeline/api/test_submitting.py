"""What a submission refuses before a cluster is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import UserError
from pipeline.api.submitting import submit


@pytest.mark.parametrize(
    ("first", "last", "fault"),
    [
        (None, "polish", "There is no stage polish"),
        ("select", "ingest", "from_ select comes after until ingest"),
        ("grand", None, "There is no stage grand in this run"),
    ],
)
def test_stages_that_cannot_run_are_refused(tmp_path: Path, first: str | None, last: str | None, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        submit({"interactions": "log"}, address="http://127.0.0.1:9", run_dir=tmp_path, from_=first, until=last)


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(UserError, match="is relative"):
        submit({"interactions": "log"}, address="http://127.0.0.1:9", run_dir="runs/shop")


def test_right_stages_are_sent_to_the_cluster(tmp_path: Path) -> None:
    """Nothing listens there: all that comes before was right."""
    with pytest.raises(UserError, match="Jobs API"):
        submit({"interactions": "log"}, address="http://127.0.0.1:9", run_dir=tmp_path, until="select", fresh=True)
    assert list(tmp_path.iterdir()) == []
