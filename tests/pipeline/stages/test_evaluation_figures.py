"""Figures from the gathered predictions, against a plain count."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.stages.evaluate_stage import warn_of_repeats
from pipeline.stages.evaluation_figures import measure
from pipeline.stages.ranking_task import PREDICTIONS
from scoring.ragged import Ragged

#: Of items 1 to 5; the second and the last are cold.
COUNTS = np.array([4, 0, 1, 9, 0])
TARGETS = [[1, 2], [5], [3, 4], [2]]
TITLES = ["Heat", "Fargo", "Alien", "Brazil", "Cube"]
LISTS = {"good": [[4, 1], [4, 3], [4, 1], [4]], "bad": [[2, 5, 1], [2, 5, 3], [2, 5, 4], [2, 5, 1]]}
TEXTS: dict[str, list[str | None]] = {"good": ["Brazil", "Brazil", "Brazil!", ""], "bad": [None] * 4}
RANKS = {"good": [[1, 6], [2], [3, 30], [60]], "bad": [[60, 60], [60], [12, 60], [7]]}


def predictions() -> pa.Table:
    rows = [
        {
            "model": model,
            "sample_id": user,
            "user_id": str(user),
            "generated": TEXTS[model][user],
            "targets": targets,
            "ranks": ranks[user],
            "items": LISTS[model][user],
        }
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
    metrics = measure(predictions(), COUNTS, TITLES)
    assert (metrics["users"], metrics["targets"], list(metrics["models"])) == (4, 6, ["good", "bad"])
    for model in RANKS:
        for cutoff in (5, 10, 50):
            key = f"recall@{cutoff}"
            assert metrics["models"][model][key]["mean"] == recall(model, cutoff, None)
            assert metrics["slices"]["warm"][model][key]["mean"] == recall(model, cutoff, cold=False)
            assert metrics["slices"]["cold"][model][key]["mean"] == recall(model, cutoff, cold=True)
    assert recall("good", 5, cold=False) != recall("good", 5, cold=True)
    assert metrics["slices"]["cold"]["good"]["recall@5"]["users"] == 3


def test_lists_are_measured_at_each_cutoff() -> None:
    lists = measure(predictions(), COUNTS, TITLES, (1, 2))["lists"]
    assert lists["good"]["coverage@1"] == 1 / 5
    assert (lists["good"]["distinct@2"], lists["bad"]["distinct@2"]) == (3, 2)
    assert lists["good"]["popularity@2"] == ((9 + 4) / 2 + (9 + 1) / 2 + (9 + 4) / 2 + 9) / 4
    assert lists["bad"]["popularity@2"] == 0
    assert lists["bad"]["novelty@1"] == pytest.approx(np.log2(14))
    assert lists["good"]["outside"] == 1 / 2
    assert "outside" not in lists["bad"]


def test_the_focus_is_subtracted_from_by_user() -> None:
    metrics = measure(predictions(), COUNTS, TITLES, (5, 60), focus="good")
    assert metrics["cutoffs"] == [5, 60]
    assert list(metrics["models"]["good"]) == [
        f"{name}@{k}" for k in (5, 60) for name in ("recall", "ndcg", "mrr", "map")
    ]
    (difference,) = metrics["differences"].values()
    assert list(metrics["differences"]) == ["bad"]
    means = [metrics["models"][model]["recall@5"]["mean"] for model in ("good", "bad")]
    assert difference["recall@5"]["mean"] == pytest.approx(means[0] - means[1])
    assert difference["recall@5"]["low"] <= difference["recall@5"]["mean"] <= difference["recall@5"]["high"]
    assert measure(predictions(), COUNTS, TITLES)["differences"] == {}


@pytest.mark.parametrize(("seen", "warned"), [([[1], [5], [9], [9]], False), ([[1, 2], [5], [3], [9]], True)])
def test_masked_repeats_are_told_with_their_key(
    caplog: pytest.LogCaptureFixture, seen: list[list[int]], warned: bool
) -> None:
    warn_of_repeats(Ragged.from_rows(TARGETS), Ragged.from_rows(seen))
    assert ("evaluate.mask_seen: false" in caplog.text) == warned
    assert ("4 of 6 test targets (67%)" in caplog.text) == warned
