from __future__ import annotations

from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.stages.model_names import UNTUNED
from tests.small_run import SmallRun

RESULT = "arms/comparison-llm.json"

pytestmark = pytest.mark.slow


def ranks(evaluation: Storage) -> list[tuple[str, list[int]]]:
    """By the untuned model, of every user."""
    rows = evaluation.read_table("predictions.parquet").to_pylist()
    return [(row["user_id"], row["ranks"]) for row in rows if row["model"] == UNTUNED]


def asked(evaluation: Storage, model: str) -> list[tuple[str, list[int]]]:
    """The users whom a model was asked for, and their targets."""
    rows = evaluation.read_table("predictions.parquet").to_pylist()
    return [(row["user_id"], row["targets"]) for row in rows if row["model"] == model]


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
        (tuned,) = (row for row in Storage.at(run).read_json(RESULT)["rows"] if row["selector"] == "random")
        arm = Storage.at(run).child("arms", "random-n24-s0")
        looks = arm.read_json("model/losses.json")["valid"]
        lowest = min(look["loss"] for look in looks)
        assert tuned["best_steps"] == [next(look["step"] for look in looks if look["loss"] == lowest)]
        assert (looks[0]["step"], looks[0]["loss"]) == (0, tuned["untuned_loss"])
        # Both are asked the same users, in the same order, for the same targets.
        untuned = Storage.at(run).child("arms", "untuned", "eval") if run == alone else small_run.run.child("eval")
        assert asked(arm.child("eval"), "LLM, tuned on random coreset") == asked(untuned, UNTUNED)
        assert set(tuned["metrics"]["test"]["ndcg@10"]) == {"value", "low", "high", "from_zero_shot"}
    assert tables[0]["zero-shot"] == tables[1]["zero-shot"]
    assert ranks(Storage.at(alone).child("arms", "untuned", "eval")) == ranks(small_run.run.child("eval"))
    assert not (beside / "arms" / "untuned").exists()
