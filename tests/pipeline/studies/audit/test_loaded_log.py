from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.sample_tables import read_samples, train_shards
from pipeline.studies.audit.loaded_log import AuditLog
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
        planted = log.plant(0.5, 0)
        ids, targets = planted.samples.sample_id[planted.planted], planted.samples.target[planted.planted]
        wrong.append(sorted(zip(ids.tolist(), targets.tolist(), strict=True)))
    assert wrong[0] == wrong[1]


def test_only_terms_are_removed(data: Storage) -> None:
    log = AuditLog.read(data)
    removed = np.zeros(len(log.samples), dtype=bool)
    whole = log.windows(8, removed)
    removed[::3] = True
    assert whole.targets.sum() - log.windows(8, removed).targets.sum() == removed.sum()


def test_planted_targets_are_wrong_and_as_frequent_as_right_ones(data: Storage) -> None:
    log = AuditLog.read(data)
    wrong = log.plant(0.5, 0)
    assert 5 < wrong.planted.sum() < len(wrong.planted)
    assert np.array_equal(wrong.planted, wrong.samples.target != log.samples.target)
    assert sorted(wrong.samples.target.tolist()) == sorted(log.samples.target.tolist())
    assert wrong.samples.history is log.samples.history
    assert wrong.sequences is log.sequences


def test_a_wrong_target_takes_the_place_of_the_right_one_in_training(data: Storage) -> None:
    log = AuditLog.read(data)
    wrong = log.plant(0.3, 0)
    removed = np.zeros(len(log.samples), dtype=bool)
    removed[:9] = True
    for marks in (np.zeros_like(removed), removed):
        assert terms(wrong, marks) - terms(log, marks) == pairs(wrong, wrong.planted & ~marks)
        assert terms(log, marks) - terms(wrong, marks) == pairs(log, wrong.planted & ~marks)


def terms(log: AuditLog, removed: np.ndarray) -> Counter[tuple[tuple[int, ...], int]]:
    """Return (history, target) of every term of the training loss."""
    windows = log.windows(8, removed)
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for row, first in enumerate(windows.first.tolist()):
        items = windows.items.row(row).tolist()
        learnt = items if windows.labels is None else windows.labels.row(row).tolist()
        dropped = [0] * len(items) if windows.removed is None else windows.removed.row(row).tolist()
        for place in range(first + 1, len(items)):
            if not dropped[place]:
                found[tuple(items[max(0, place - 8) : place]), learnt[place]] += 1
    assert found.total() == windows.targets.sum()
    return found


def pairs(log: AuditLog, chosen: np.ndarray) -> Counter[tuple[tuple[int, ...], int]]:
    rows = np.flatnonzero(chosen).tolist()
    return Counter((tuple(log.samples.history.row(row).tolist()), int(log.samples.target[row])) for row in rows)
