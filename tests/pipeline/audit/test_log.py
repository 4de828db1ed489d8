from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.storage import Storage
from pipeline.audit.log import AuditLog
from pipeline.cli import main
from pipeline.tables import read_samples, train_shards
from tests.small_log import write_config, write_log


@pytest.fixture(scope="module")
def data(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    folder = tmp_path_factory.mktemp("audit")
    config = write_config(folder, write_log(folder / "log.parquet"), Path("no-llm"), samples={"per_user": 3})
    assert main(["ingest", str(config), "--run-dir", str(folder / "run")]) == 0
    return Storage.at(folder / "run").child("data")


def test_every_target_is_found_at_its_place_after_its_history(data: Storage) -> None:
    log = AuditLog.read(data)
    assert len(log.samples) == sum(len(read_samples(data, index)) for index in train_shards(data))
    values = log.sequences.values
    assert np.array_equal(values[log.place], log.samples.target)
    for row in range(len(log.samples)):
        history = log.samples.history.row(row)
        assert np.array_equal(values[log.place[row] - len(history) : log.place[row]], history)


def test_only_terms_are_removed(data: Storage) -> None:
    log = AuditLog.read(data)
    removed = np.zeros(len(log.samples), dtype=bool)
    whole = log.windows(8, removed)
    removed[::3] = True
    assert whole.targets.sum() - log.windows(8, removed).targets.sum() == removed.sum()


def test_planted_targets_are_wrong_last_items_and_leave_histories_alone(data: Storage) -> None:
    log = AuditLog.read(data)
    planted_log, planted = log.plant(0.5, 0)
    assert 5 < planted.sum() < len(planted)
    changed = log.sequences.values != planted_log.sequences.values
    assert np.array_equal(np.flatnonzero(changed), np.sort(log.place[planted]))
    assert set((log.place[planted] + 1).tolist()) <= set(log.sequences.offsets[1:].tolist())
    assert (planted_log.samples.target[planted] != log.samples.target[planted]).all()
    assert np.array_equal(planted_log.samples.target[~planted], log.samples.target[~planted])
    assert set(planted_log.samples.target.tolist()) <= set(log.samples.target.tolist())
    assert planted_log.samples.history is log.samples.history
