"""Surrogate training on real Ray Train workers against a plain loop in one process."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from scoring.batching import collate_windows, length_buckets
from scoring.ragged import Ragged
from scoring.surrogate import build_surrogate
from tests.training.killing import Killer, checkpoint_states
from tests.training.toy_log import ITEMS, write_toy_log
from training.loops.schedule import seed_of, warm_up
from training.loops.surrogate_config import SurrogateConfig
from training.loops.surrogate_data import train_windows, valid_users
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.surrogate_training import load_surrogate, train_surrogate
from training.loops.surrogate_validation import target_ranks
from training.loops.training_records import SurrogateMetrics
from training.loops.worker_placement import Placement

SPEC = SurrogateSpec(
    SurrogateConfig(
        hidden=16,
        blocks=1,
        heads=2,
        dropout=0.0,
        # The initial weights have a seed of their own here.
        settings={"seed": 5},
        epochs=4,
        patience=3,
        lr=1e-2,
        weight_decay=0.01,
        warmup_steps=5,
        batch_tokens=128,
        valid_users=40,
        workers=2,
    ),
    sample_history=6,
)


def changed(**settings: Any) -> SurrogateSpec:
    """`SPEC` with other settings."""
    return replace(SPEC, settings=SPEC.settings.model_copy(update=settings))


def train(spec: SurrogateSpec, data: Storage, root: Path) -> SurrogateMetrics:
    storage = Storage.at(root)
    return train_surrogate(spec, data, storage.child("surrogate"), storage.child("scratch"), SilentProgress())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return write_toy_log(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Storage, tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> tuple[SurrogateMetrics, Path]:
    root = tmp_path_factory.mktemp("trained")
    return train(SPEC, data, root), root


def plain_loop(spec: SurrogateSpec, data: Storage) -> tuple[list[float], list[float]]:
    """Mean loss of each epoch and NDCG@10 after it, from the definitions."""
    settings = spec.settings
    windows = train_windows(data, spec.max_history)
    users = valid_users(data, spec)
    assert users.seen is not None
    model = build_surrogate(settings.model, ITEMS, spec.network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    losses, ndcg, step = [], [], 0
    lengths = windows.items.lengths - 1
    epoch_steps = len(
        length_buckets(lengths, settings.batch_tokens, spec.batch_rows, seed_of("batches", settings.seed, 0))
    )
    warmup = min(settings.warmup_steps, settings.epochs * epoch_steps // 10)
    for epoch in range(settings.epochs):
        model.train()
        total, count = 0.0, 0
        seed = seed_of("batches", settings.seed, epoch)
        for rows in length_buckets(lengths, settings.batch_tokens, spec.batch_rows, seed):
            optimizer.param_groups[0]["lr"] = settings.lr * warm_up(step, warmup)
            batch = collate_windows(windows.items, windows.first, rows)
            loss, targets = model.sequence_loss(batch)
            (loss / targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
            optimizer.step()
            optimizer.zero_grad()
            total, count, step = total + loss.item(), count + targets, step + 1
        losses.append(total / count)
        model.eval()
        gains = []
        for row in range(len(users.history)):
            history = torch.from_numpy(users.history.row(row).astype(np.int64))[None]
            scores = model.logits(model.encode(history, torch.tensor([history.shape[1]])))[0].detach().numpy()
            scores[users.seen.row(row) - 1] = -np.inf
            held_out = users.targets.row(row)
            ranks = [1 + int((scores > scores[item - 1]).sum()) for item in held_out]
            ideal = sum(1 / math.log2(place + 2) for place in range(min(len(held_out), 10)))
            unseen = ~np.isin(held_out, users.seen.row(row))
            dcg = sum(1 / math.log2(r + 1) for r, ok in zip(ranks, unseen, strict=True) if r <= 10 and ok)
            gains.append(dcg / ideal)
        ndcg.append(float(np.mean(gains)))
    return losses, ndcg


def test_two_workers_follow_a_plain_loop(trained: tuple[SurrogateMetrics, Path], data: Storage) -> None:
    losses, ndcg = plain_loop(SPEC, data)
    epochs = trained[0]["epochs"]
    np.testing.assert_allclose([row["loss"] for row in epochs], losses, rtol=2e-4)
    np.testing.assert_allclose([row["ndcg@10"] for row in epochs], ndcg, atol=2e-3)
    assert losses[-1] < 0.8 * losses[0]


def test_the_best_epoch_is_kept_and_loads(trained: tuple[SurrogateMetrics, Path], data: Storage) -> None:
    metrics, root = trained
    folder = Storage.at(root / "surrogate")
    assert json.loads(folder.read_text("metrics.json")) == metrics
    assert metrics["ndcg@10"] == max(row["ndcg@10"] for row in metrics["epochs"])
    assert metrics["epochs"][metrics["best_epoch"] - 1]["ndcg@10"] == metrics["ndcg@10"]
    assert (metrics["item_count"], metrics["config"]["hidden"]) == (ITEMS, 16)
    assert metrics["train_targets"] == int(train_windows(data, 6).targets.sum())
    assert [worker["node_id"] for worker in metrics["workers"]][1:]
    model = load_surrogate(folder)
    assert not model.training
    history = torch.tensor([[3, 4, 5]])
    best = model.logits(model.encode(history, torch.tensor([3]))).argmax() + 1
    assert best.item() in (5, 6, 7)


def test_every_train_position_is_a_target_once(data: Storage) -> None:
    names = data.list("sequences", suffix=".parquet")
    items = [row for name in names for row in data.read_table(f"sequences/{name}")["items"].to_pylist()]
    windows = train_windows(data, 6)
    assert windows.targets.sum() == sum(len(row) - 1 for row in items)
    batch = collate_windows(windows.items, windows.first, np.arange(len(windows.items)))
    assert batch.counted.sum(dim=1).tolist() == windows.targets.tolist()


def test_validation_users_do_not_depend_on_the_parts(data: Storage, tmp_path: Path) -> None:
    other = write_toy_log(tmp_path, parts=7)
    spec = SurrogateSpec(SurrogateConfig(valid_users=25, seed=1), sample_history=6)
    drawn = [valid_users(source, spec) for source in (data, other)]
    assert len(drawn[0].history) == 25
    for name in ("history", "targets", "seen"):
        a, b = (getattr(users, name) for users in drawn)
        assert a.values.tolist() == b.values.tolist()
        assert a.offsets.tolist() == b.offsets.tolist()


def test_targets_that_were_seen_before_are_ranked_where_nothing_is_masked(data: Storage) -> None:
    model = build_surrogate("sasrec", ITEMS, SPEC.network).eval()
    repeats = []
    for spec in (SPEC, replace(SPEC, mask_seen=False)):
        users = valid_users(data, spec)
        # Everyone chooses the last item of the history once more.
        again = Ragged.from_rows(users.history.row(row)[-1:] for row in range(len(users.history)))
        users = replace(users, targets=again)
        ranks = target_ranks(model, users, np.arange(len(again)), torch.device("cpu"))
        repeats.append(np.concatenate(ranks))
    assert (repeats[0] == ITEMS + 1).all()
    assert (repeats[1] <= ITEMS).all()


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (changed(workers=9), "surrogate.workers is 9"),
        (replace(SPEC, placement=Placement(use_gpu=True)), "no node of the cluster has one"),
        (changed(settings={"hiden": 8}), "hiden"),
        (changed(hidden=9), "multiple of heads"),
    ],
)
def test_what_cannot_be_is_refused(
    data: Storage, tmp_path: Path, ray_local: None, spec: SurrogateSpec, named: str
) -> None:
    with pytest.raises(UserError, match=named) as caught:
        train(spec, data, tmp_path)
    assert caught.value.remedy


def test_a_log_without_validation_is_refused_at_once(data: Storage, tmp_path: Path, ray_local: None) -> None:
    copy = Storage.at(shutil.copytree(data.uri, tmp_path / "data"))
    for name in copy.list("samples/valid", suffix=".parquet"):
        copy.write_table(f"samples/valid/{name}", copy.read_table(f"samples/valid/{name}").slice(0, 0))
    with pytest.raises(UserError, match="no validation sample"):
        train(changed(workers=1), copy, tmp_path)


@pytest.mark.slow
def test_a_killed_worker_resumes_to_the_same_weights(data: Storage, tmp_path: Path, ray_local: None) -> None:
    spec = changed(dropout=0.2, loss="sampled", negatives=16, epochs=60, patience=0)
    undisturbed = train(spec, data, tmp_path / "undisturbed")
    scratch = Storage.at(tmp_path / "killed" / "scratch")
    killer = Killer(scratch, "surrogate-", checkpoints=2)
    killer.start()
    killed = train(spec, data, tmp_path / "killed")
    killer.join()
    assert killer.step is not None
    assert killer.step < undisturbed["steps"] == killed["steps"]
    last = checkpoint_states(scratch, "surrogate-")[-1]
    assert killer.killed not in [worker["pid"] for worker in last["workers"]]
    for name in ("loss", "ndcg@10"):
        assert [row[name] for row in killed["epochs"]] == [row[name] for row in undisturbed["epochs"]]
    files = [tmp_path / run / "surrogate" / "model.safetensors" for run in ("undisturbed", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_a_checkpoint_fits_another_number_of_workers(
    trained: tuple[SurrogateMetrics, Path], data: Storage, tmp_path: Path
) -> None:
    """What two workers began, as it stood before its last epoch, is gone on with by one."""
    whole, root = trained
    scratch = Storage.at(shutil.copytree(root / "scratch", tmp_path / "scratch"))
    (name,) = [path.name for path in (tmp_path / "scratch").iterdir() if (path / "done").is_dir()]
    folder = scratch.child(name)
    folder.delete("done")
    newest = folder.list(suffix=".json")[-1]
    folder.delete(newest)
    metrics = train(changed(workers=1), data, tmp_path)
    assert [len(worker) for worker in (whole["workers"], metrics["workers"])] == [2, 1]
    assert metrics["epochs"][:-1] == whole["epochs"][:-1]
    assert metrics["steps"] == whole["steps"]
    np.testing.assert_allclose(metrics["epochs"][-1]["loss"], whole["epochs"][-1]["loss"], rtol=1e-5)


def test_a_log_of_one_batch_is_neither_warmed_up_for_ever_nor_given_up_early() -> None:
    spec = changed(epochs=50, warmup_steps=100, patience=5)
    assert (spec.warmup(steps_per_epoch=1), spec.warmup(steps_per_epoch=1000)) == (5, 100)
    assert (spec.patient_epochs(steps_per_epoch=1), spec.patient_epochs(steps_per_epoch=1000)) == (100, 5)
    assert changed(epochs=50, warmup_steps=100, patience=0).patient_epochs(steps_per_epoch=1) == 0


@pytest.mark.slow
def test_without_a_hit_the_lowest_loss_is_kept(
    data: Storage, tmp_path: Path, ray_local: None, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Storage.at(shutil.copytree(data.uri, tmp_path / "data"))
    for name in copy.list("samples/valid", suffix=".parquet"):
        # What a user has seen is never ranked, so that nobody's target is among the first.
        table = copy.read_table(f"samples/valid/{name}")
        seen = table.set_column(table.column_names.index("targets"), "targets", table["history"])
        copy.write_table(f"samples/valid/{name}", seen)
    metrics = train(changed(workers=1), copy, tmp_path)
    losses = [row["loss"] for row in metrics["epochs"]]
    assert metrics["ndcg@10"] == 0
    assert metrics["best_epoch"] == 1 + losses.index(min(losses)) > 1
    # Nothing that is learnt would help: what hides the targets is named, and the rate is not.
    assert "evaluate.mask_seen: false" in caplog.text
    assert "(100%)" in caplog.text
    assert "surrogate.lr" not in caplog.text
    assert "surrogate.epochs" not in caplog.text


@pytest.mark.slow
def test_a_surrogate_that_has_learnt_too_little_is_told(
    data: Storage, tmp_path: Path, ray_local: None, caplog: pytest.LogCaptureFixture
) -> None:
    train(changed(epochs=1, batch_tokens=4096, workers=1), data, tmp_path)
    assert "surrogate.epochs" in caplog.text


@pytest.mark.slow
def test_patience_stops_and_keeps_the_best(data: Storage, tmp_path: Path, ray_local: None) -> None:
    metrics = train(changed(epochs=40, patience=2, lr=3e-2, workers=1), data, tmp_path)
    assert len(metrics["epochs"]) == metrics["best_epoch"] + 2
