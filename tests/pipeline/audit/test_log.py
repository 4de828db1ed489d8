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


def test_groups_and_wrong_targets_do_not_depend_on_the_shards(data: Storage, tmp_path: Path) -> None:
    config = write_config(tmp_path, write_log(tmp_path / "log.parquet"), Path("no-llm"), samples={"per_user": 3})
    assert main(["ingest", str(config), "--run-dir", str(tmp_path / "run"), "--set", "samples.shards=5"]) == 0
    logs = [AuditLog.read(data), AuditLog.read(Storage.at(tmp_path / "run").child("data"))]
    assert len(train_shards(data)) != 5
    for risk in ("train", "valid"):
        found = []
        for log in logs:
            queries = log.queries(risk, 7, 0)
            pairs = zip(queries.samples.sample_id.tolist(), queries.group.tolist(), strict=True)
            found.append(sorted(pairs))
        assert found[0] == found[1]
    users = [set(log.user.tolist()) for log in logs]
    assert users[0] == users[1] >= set(logs[0].valid_user.tolist())
    wrong = []
    for log in logs:
        planted_log, planted = log.plant(0.5, 0)
        ids, targets = planted_log.samples.sample_id, planted_log.samples.target
        wrong.append(sorted(zip(ids[planted].tolist(), targets[planted].tolist(), strict=True)))
    assert wrong[0] == wrong[1]


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
