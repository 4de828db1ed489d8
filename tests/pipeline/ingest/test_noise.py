"""Ingest adds no pattern to a log of pure noise that a model could find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cluster.storage import Storage
from pipeline.driver.run_directory import RunOptions, run_stages
from pipeline.engine.config_file import parse_text
from scoring.ragged import Ragged
from tests.pipeline.ingest.logs import read_parts, write
from training.loops.surrogate_data import ValidUsers
from training.loops.surrogate_training import load_surrogate
from training.loops.surrogate_validation import target_ranks

USERS, ITEMS, CHOSEN, CUTOFF = 600, 100, 12, 10

pytestmark = pytest.mark.usefixtures("ray_local")


def _noise() -> pd.DataFrame:
    """Write a log in which every user chose 12 of 100 items by chance, all on one date."""
    random = np.random.default_rng(0)
    item = np.concatenate([random.permutation(ITEMS)[:CHOSEN] for _ in range(USERS)])
    user = np.repeat(np.arange(USERS), CHOSEN)
    date = np.datetime64("2024-01-01") + random.integers(0, 300, USERS)[user].astype("timedelta64[D]")
    return pd.DataFrame(
        {"user_id": user, "item_id": item, "date": np.datetime_as_string(date), "title": [f"Title {i}" for i in item]}
    )


def test_a_surrogate_finds_only_chance_in_noise(tmp_path: Path) -> None:
    source = write(_noise(), tmp_path / "log.csv")
    config = parse_text(
        f"data: {{interactions: {source}, split: leave_one_out}}\n"
        "surrogate: {hidden: 32, epochs: 8, patience: 0, batch_tokens: 1024}\n"
        "cluster: {actors: 1, gpus: 0}\n",
        "test",
        [],
    )
    run = Storage.at(tmp_path / "run")
    run_stages(config, run, RunOptions(last="surrogate"))

    statistics = run.child("data").read_json("statistics.json")
    assert statistics["ties"] == {
        "interactions": USERS * CHOSEN,
        "consecutive_pairs": USERS * (CHOSEN - 1),
        "of_consecutive_pairs": USERS * (CHOSEN - 1),
        "users_with_tied_target": USERS,
        "of_users_with_target": USERS,
    }
    assert any("100%" in warning and "data.columns.position" in warning for warning in statistics["warnings"])

    rows = read_parts(run.child("data"), "samples/test")
    history, targets, seen = (Ragged.from_rows([row[name] for row in rows]) for name in ("history", "targets", "seen"))  # type: ignore[misc]
    model = load_surrogate(run.child("surrogate"))
    found = target_ranks(model, ValidUsers(history, targets, seen), np.arange(USERS), torch.device("cpu"))
    ranks = np.array([rank[0] for rank in found])

    # The rank of the single target is uniform over the items that the user has not seen.
    candidates = ITEMS - CHOSEN + 1
    gains = 1 / np.log2(np.arange(1, CUTOFF + 1) + 1)
    mean = gains.sum() / candidates
    deviation = np.sqrt(((gains**2).sum() / candidates - mean**2) / USERS)
    ndcg = np.where(ranks <= CUTOFF, 1 / np.log2(ranks + 1), 0).mean()
    assert abs(ndcg - mean) < 3 * deviation
