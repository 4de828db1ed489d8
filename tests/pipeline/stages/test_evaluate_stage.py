"""Figures from the gathered ranks, against a plain count."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.stages.evaluate_stage import measure, warn_of_repeats
from pipeline.stages.ranking_task import PREDICTIONS
from scoring.ragged import Ragged

#: Of items 1 to 5; the second and the last are cold.
COUNTS = np.array([4, 0, 1, 9, 0])
TARGETS = [[1, 2], [5], [3, 4], [2]]
RANKS = {"good": [[1, 6], [2], [3, 30], [60]], "bad": [[60, 60], [60], [12, 60], [7]]}


def predictions() -> pa.Table:
    rows = [
        {"model": model, "sample_id": user, "user_id": str(user), "targets": targets, "ranks": ranks[user]}
        for model, ranks in RANKS.items()
        for user, targets in enumerate(TARGETS)
    ]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def recall(model: str, cutoff: int, cold: bool | None) -> float:
    """The mean over users of hits over targets, of the targets that are cold, warm, or any."""
    shares = []
    for targets, ranks in zip(TARGETS, RANKS[model], strict=True):
        kept = [
            rank
            for target, rank in zip(targets, ranks, strict=True)
            if cold is None or (COUNTS[target - 1] == 0) == cold
        ]
        if kept:
            shares.append(sum(rank <= cutoff for rank in kept) / len(kept))
    return sum(shares) / len(shares)


def test_warm_and_cold_targets_are_told_apart() -> None:
    metrics = measure(predictions(), COUNTS, seed=0)
    assert (metrics["users"], metrics["targets"], list(metrics["models"])) == (4, 6, ["good", "bad"])
    for model in RANKS:
        for cutoff in (5, 10, 50):
            key = f"recall@{cutoff}"
            assert metrics["models"][model][key]["mean"] == recall(model, cutoff, None)
            assert metrics["slices"]["warm"][model][key]["mean"] == recall(model, cutoff, cold=False)
            assert metrics["slices"]["cold"][model][key]["mean"] == recall(model, cutoff, cold=True)
    assert recall("good", 5, cold=False) != recall("good", 5, cold=True)
    assert metrics["slices"]["cold"]["good"]["recall@5"]["users"] == 3


@pytest.mark.parametrize(("seen", "warned"), [([[1], [5], [9], [9]], False), ([[1, 2], [5], [3], [9]], True)])
def test_masked_repeats_are_told_with_their_key(
    caplog: pytest.LogCaptureFixture, seen: list[list[int]], warned: bool
) -> None:
    warn_of_repeats(Ragged.from_rows(TARGETS), Ragged.from_rows(seen))
    assert ("evaluate.mask_seen: false" in caplog.text) == warned
    assert ("4 of 6 test targets (67%)" in caplog.text) == warned
