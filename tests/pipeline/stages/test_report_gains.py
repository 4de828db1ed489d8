"""What the report says was gained: over no tuning, and over the random coresets that a comparison left in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.progress import LineProgress
from cluster.storage import Storage
from pipeline.engine.config_file import parse_config
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.report.report_data import Gain
from pipeline.stages.evaluation_figures import measure
from pipeline.stages.model_names import UNTUNED
from pipeline.stages.ranking_task import PREDICTIONS
from pipeline.stages.report_examples import read_examples
from pipeline.stages.report_gains import read_gains

USERS = 40
TITLES = [f"Title {item}" for item in range(1, 31)]
TUNED = {"finetune.lr": 0.01, "finetune.seed": 3, "finetune.workers": 2, "select.reference_users": "all"}


def ranks(seed: int, top: int) -> list[list[int]]:
    return [[int(rank)] for rank in np.random.default_rng(seed).integers(1, top + 1, USERS)]


def table(models: Mapping[str, Sequence[Sequence[int]]]) -> pa.Table:
    rows = [
        {
            "model": model,
            "sample_id": user,
            "user_id": f"u{user}",
            "generated": f"text {user}",
            "targets": [1 + user % 30],
            "ranks": placed[user],
            "items": [1 + (user + place) % 30 for place in range(10)],
        }
        for model, placed in models.items()
        for user in range(USERS)
    ]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def complete(folder: Storage, stage: str, config: Mapping[str, object]) -> None:
    Manifest(stage, Fingerprint(config, {}, 1), "", [], {}, 1.0, 1).write(folder)


def write(run: Storage, label: str, tuned: Mapping[str, object], chosen: int, predictions: pa.Table) -> None:
    """Write the folders of a selection, a tuning and an evaluation."""
    run.write_json("coreset/selection.json", {"chosen": chosen})
    measured = measure(predictions, np.ones(30, dtype=np.int64), TITLES, (5, 10), focus=label)
    run.write_json("eval/metrics.json", {**measured, "focus": label})
    run.write_table("eval/predictions.parquet", predictions)
    for folder, stage in (("coreset", "select"), ("model", "finetune"), ("eval", "evaluate")):
        complete(run.child(folder), stage, tuned if stage == "finetune" else {})


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    found = Storage.at(tmp_path)
    write(found, "tuned", TUNED, 24, table({"tuned": ranks(0, 8), UNTUNED: ranks(1, 40)}))
    return found


def arm(run: Storage, name: str, placed: list[list[int]], chosen: int = 24, lr: float = 0.01) -> None:
    own = {**TUNED, "finetune.lr": lr, "finetune.seed": 7, "finetune.workers": 1, "select.reference_users": "half"}
    write(
        run.child("arms", name),
        "LLM, tuned on random coreset",
        own,
        chosen,
        table({"LLM, tuned on random coreset": placed}),
    )
    tried = run.read_json("arms/tried.json")["llm"] if run.exists("arms/tried.json") else []
    run.write_json("arms/tried.json", {"llm": [*tried, name]})


def gains(run: Storage, method: str = "dealrec") -> list[Gain]:
    config = parse_config({"data": {"interactions": "log"}, "select": {"method": method}}, "c")
    folders = {"select": run.child("coreset"), "finetune": run.child("model"), "evaluate": run.child("eval")}
    context = StageContext(config, run, run.child("report"), folders, LineProgress("report", "pages"))
    return read_gains(context, run.read_json("eval/metrics.json"))


def test_a_run_alone_is_held_against_no_tuning(run: Storage) -> None:
    (gain,) = gains(run)
    assert (gain.subject, gain.metric, gain.difference.sign, gain.difference.users) == ("tuning", "ndcg@10", 1, USERS)
    assert gain.ours - gain.theirs == pytest.approx(gain.difference.mean)


def test_arms_of_random_are_the_control_of_the_selection(run: Storage) -> None:
    arm(run, "random-n24-s0", ranks(2, 8))
    arm(run, "random-n24-s1000", ranks(3, 40))
    arm(run, "dealrec-n24-s0", ranks(0, 1))
    _, gain = gains(run)
    assert (gain.subject, gain.against) == ("the selection", "2 random coresets of the same size")
    means = [measured(run, name) for name in ("random-n24-s0", "random-n24-s1000")]
    assert gain.theirs == pytest.approx(np.mean(means))
    assert gain.difference.mean == pytest.approx(gain.ours - gain.theirs)
    assert [found.subject for found in gains(run, "random")] == ["tuning"]


def measured(run: Storage, name: str) -> float:
    models = run.child("arms", name).read_json("eval/metrics.json")["models"]
    return float(models["LLM, tuned on random coreset"]["ndcg@10"]["mean"])


def test_arms_that_differ_in_more_than_their_samples_do_not_count(run: Storage) -> None:
    arm(run, "random-n12-s0", ranks(2, 8), chosen=12)
    arm(run, "random-n24-s1", ranks(2, 8), lr=0.5)
    arm(run, "random-n24-s2", ranks(2, 8))
    run.child("arms", "random-n24-s2").delete("eval/_manifest.json")
    arm(run, "random-n24-s3", ranks(2, 8))
    run.child("arms", "random-n24-s3").write_table(
        "eval/predictions.parquet", table({"LLM, tuned on random coreset": ranks(2, 8)}).slice(1)
    )
    assert [gain.subject for gain in gains(run)] == ["tuning"]


def test_ten_users_are_shown_the_same_for_every_model(run: Storage) -> None:
    data = run.child("data")
    data.write_table("items.parquet", pa.table({"title": TITLES}))
    users = pa.table(
        {"sample_id": range(USERS), "history": pa.array([list(range(1, 9))] * USERS, pa.list_(pa.int32()))}
    )
    for part in range(3):
        run.write_table(f"eval/_users/part-{part:05d}.parquet", users.slice(16 * part, 16))
    examples = read_examples(run.child("eval"), data, "tuned")
    assert [example["user"] for example in examples] == [f"u{user}" for user in range(10)]
    third = examples[2]
    assert third["history"] == [f"Title {item}" for item in range(3, 9)]
    assert (third["targets"], third["generated"]) == (["Title 3"], "text 2")
    lists = third["lists"]
    assert isinstance(lists, list)
    assert [shown["model"] for shown in lists] == ["tuned", UNTUNED]
    assert lists[0]["titles"] == [{"title": f"Title {item}", "hit": item == 3} for item in range(3, 8)]
    assert [shown["rank"] for shown in lists] == [ranks(0, 8)[2][0], ranks(1, 40)[2][0]]
