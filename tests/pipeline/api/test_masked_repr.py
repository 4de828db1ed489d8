"""Results in a notebook show no credentials."""

from __future__ import annotations

from cluster.machine_checks import check_writable
from cluster.storage import Storage
from pipeline.api.exporting import Export
from pipeline.api.run_result import Run
from pipeline.engine.config import Config

_FOLDER = "mock://id:secret@bucket/runs"


def test_runs_and_exports_keep_their_credentials_and_do_not_show_them() -> None:
    run = Run(Config(data={"interactions": "log"}), _FOLDER)
    assert repr(run) == "Run(run_dir='mock://***@bucket/runs')"
    assert run.run_dir == _FOLDER
    assert repr(Export(_FOLDER, ())) == "Export(folder='mock://***@bucket/runs', files=())"


def test_findings_show_no_credentials() -> None:
    assert "secret" not in repr(check_writable(Storage.at(_FOLDER)))
