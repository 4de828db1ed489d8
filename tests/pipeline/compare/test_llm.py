from __future__ import annotations

from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.cli import main
from pipeline.stages.evaluate_workers import UNTUNED
from tests.small_run import SmallRun

RESULT = "arms/comparison-llm.json"

pytestmark = pytest.mark.slow


def ranks(evaluation: Storage) -> list[tuple[str, list[int]]]:
    """By the untuned model, of every user."""
    rows = evaluation.read_table("predictions.parquet").to_pylist()
    return [(row["user_id"], row["ranks"]) for row in rows if row["model"] == UNTUNED]


def test_the_untuned_model_is_a_row_whether_a_run_has_evaluated_it_or_not(small_run: SmallRun, tmp_path: Path) -> None:
    command = ["compare", str(small_run.config), "--selectors", "random", "--seeds", "1"]
    command += ["--set", "finetune.workers=1", "--set", "finetune.epochs=1", "--run-dir"]
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    small_run.begin(alone, "data")
    small_run.begin(beside, "data", "surrogate", "scores", "coreset", "model", "eval")
    tables = []
    for run in (alone, beside):
        assert main([*command, str(run)]) == 0
        tables.append({row["selector"]: row["metrics"] for row in Storage.at(run).read_json(RESULT)["rows"]})
        losses = {row["selector"]: row["valid_loss"] for row in Storage.at(run).read_json(RESULT)["rows"]}
        assert losses["zero-shot"] is None
        assert losses["random"] > 0
    assert tables[0]["zero-shot"] == tables[1]["zero-shot"]
    assert ranks(Storage.at(alone).child("arms", "untuned", "eval")) == ranks(small_run.run.child("eval"))
    assert not (beside / "arms" / "untuned").exists()
