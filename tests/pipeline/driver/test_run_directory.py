"""The whole run on a small log and a tiny LLM, on real Ray and a real DeepSpeed engine."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.driver.run_directory import RunOptions, chosen_stages
from pipeline.engine.config_file import parse_config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import Manifest, read_manifest
from pipeline.stages.stage_list import STAGES, stages_of
from tests.small_log import small_log, write_config
from tests.small_run import SmallRun


@pytest.fixture
def workspace(small_run: SmallRun) -> Path:
    return small_run.folder


@pytest.fixture
def run(small_run: SmallRun) -> Storage:
    return small_run.run


def manifest(run: Storage, folder: str) -> Manifest:
    found = read_manifest(run.child(*folder.split("/")))
    assert found is not None
    return found


def column(run: Storage, folder: str, name: str) -> np.ndarray:
    store = run.child(*folder.split("/"))
    parts = [store.read_table(part, [name]) for part in store.list(suffix=".parquet")]
    return np.concatenate([part.column(name).to_numpy(zero_copy_only=False) for part in parts])


def test_every_stage_is_complete_and_has_its_artifacts(run: Storage) -> None:
    for stage in STAGES:
        assert manifest(run, stage.folder).stage == stage.name
    for name in (
        "config.yaml",
        "report.html",
        "events.jsonl",
        "data/items.parquet",
        "surrogate/model.safetensors",
        "coreset/selection.json",
        "model/adapter_model.safetensors",
        "model/adapter_config.json",
        "eval/metrics.json",
    ):
        assert run.size(name) > 0


def test_every_train_sample_is_scored_once_in_the_order_of_its_file(run: Storage) -> None:
    samples = run.child("data", "samples", "train")
    for folder in ("influence", "effort"):
        scores = run.child("scores", folder)
        assert scores.list(suffix=".parquet") == samples.list(suffix=".parquet")
        for part in samples.list(suffix=".parquet"):
            expected = samples.read_table(part, ["sample_id"]).column("sample_id")
            table = scores.read_table(part)
            assert table.column("sample_id").equals(expected)
            assert set(table.column("status").to_pylist()) <= {"ok"}
    ids = column(run, "data/samples/train", "sample_id")
    assert len(set(ids.tolist())) == len(ids) > 200


def test_mean_influence_is_the_inner_product(run: Storage) -> None:
    facts = manifest(run, "scores/influence").facts
    influence = column(run, "scores/influence", "influence").astype(np.float64)
    rms = np.sqrt(np.mean(influence**2))
    assert abs(influence.mean() - facts["v_dot_h"]) < 1e-4 * rms
    assert facts["solver"] == "ekfac"
    assert facts["identity_error"] < 1e-4


def test_the_coreset_is_what_selection_reports(run: Storage) -> None:
    coreset = run.child("coreset").read_table("coreset.parquet")
    report = run.child("coreset").read_json("selection.json")
    assert coreset.num_rows == report["chosen"] == 24
    assert sum(stratum["picks"] for stratum in report["strata"]) == 24
    scores = dict(
        zip(column(run, "data/samples/train", "sample_id"), column(run, "scores/effort", "effort"), strict=True)
    )
    assert [scores[key] for key in coreset.column("sample_id").to_pylist()] == coreset.column("effort").to_pylist()


def test_tuning_lowers_the_validation_loss_on_a_real_engine(run: Storage) -> None:
    losses = run.child("model").read_json("losses.json")
    assert losses["valid"][0]["step"] == 0
    assert losses["best"]["loss"] < losses["valid"][0]["loss"]
    workers = manifest(run, "model").facts["workers"]
    assert [worker["rank"] for worker in workers] == [0, 1]
    assert {worker["engine"] for worker in workers} == {"deepspeed.runtime.engine.DeepSpeedEngine"}
    assert {worker["zero"] for worker in workers} == {2}
    assert {worker["world_size"] for worker in workers} == {2}


def test_the_adapter_loads_with_peft(run: Storage, workspace: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(workspace / "llm")
    tuned = PeftModel.from_pretrained(base, str(workspace / "run" / "model"))
    card = run.read_text("model/README.md")
    assert f"| coreset digest | {manifest(run, 'coreset').content} |" in card
    assert f"| data digest | {manifest(run, 'data').content} |" in card
    assert str(workspace) not in card
    moved = [tensor for name, tensor in tuned.named_parameters() if "lora_B" in name]
    assert moved
    assert all(bool(tensor.any()) for tensor in moved)


def test_metrics_by_brute_force(run: Storage) -> None:
    metrics = run.child("eval").read_json("metrics.json")
    table = run.child("eval").read_table("predictions.parquet")
    controls = {"LLM, untuned", "surrogate", "popularity", "title similarity"}
    assert set(metrics["models"]) == {"LLM, tuned on dealrec coreset", *controls}
    for model, values in metrics["models"].items():
        rows = table.filter(pc.equal(table.column("model"), model)).to_pylist()
        assert len(rows) == metrics["users"] == 20
        for cutoff in (5, 10, 20, 50):
            recall = [sum(rank <= cutoff for rank in row["ranks"]) / len(row["ranks"]) for row in rows]
            ndcg = [
                sum(1 / np.log2(rank + 1) for rank in row["ranks"] if rank <= cutoff)
                / sum(1 / np.log2(place + 2) for place in range(min(len(row["ranks"]), cutoff)))
                for row in rows
            ]
            assert abs(values[f"recall@{cutoff}"]["mean"] - np.mean(recall)) < 1e-9
            assert abs(values[f"ndcg@{cutoff}"]["mean"] - np.mean(ndcg)) < 1e-9


def test_lists_are_kept_measured_and_shown(run: Storage, workspace: Path) -> None:
    metrics, table = run.child("eval").read_json("metrics.json"), run.child("eval").read_table("predictions.parquet")
    for row in table.to_pylist():
        assert row["grounded"] == row["items"][0]
        assert len(row["items"]) == len(row["scores"]) == len(set(row["items"])) > 20
        assert row["scores"] == sorted(row["scores"], reverse=True)
    for model, figures in metrics["lists"].items():
        lists = [row["items"][:5] for row in table.filter(pc.equal(table.column("model"), model)).to_pylist()]
        assert figures["distinct@5"] == len({item for shown in lists for item in shown})
        assert ("outside" in figures) == model.startswith("LLM")
    assert metrics["lists"]["popularity"]["popularity@5"] > metrics["lists"]["surrogate"]["popularity@5"]
    page = run.read_text("report.html")
    assert "10 of the test users, drawn by hash" in page
    assert page.count("<ol>") == 30
    assert re.search(r"<strong>Tuning (gained|did harm)", page)
    other = workspace / "other-run"
    shutil.copytree(run.uri, other)
    assert main(["compare", run.uri, "--against", str(other)]) == 0


def test_a_second_run_finds_everything_done(run: Storage, workspace: Path) -> None:
    before = {stage.folder: manifest(run, stage.folder) for stage in STAGES}
    assert main(["run", str(workspace / "config.yaml"), "--run-dir", run.uri]) == 0
    assert before == {stage.folder: manifest(run, stage.folder) for stage in STAGES}


def test_another_config_is_refused(run: Storage, workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = ["run", str(workspace / "config.yaml"), "--run-dir", run.uri, "--set", "select.size=30"]
    assert main(command) == 2
    assert manifest(run, "coreset").facts["chosen"] == 24


@pytest.mark.parametrize(
    ("method", "options", "stages"),
    [
        ("dealrec", RunOptions(last="effort"), ["ingest", "surrogate", "influence", "effort"]),
        ("dealrec", RunOptions(last="surrogate"), ["ingest", "surrogate"]),
        ("dealrec", RunOptions(first="influence", last="effort"), ["ingest", "surrogate", "influence", "effort"]),
        ("dealrec", RunOptions(only="effort"), ["effort"]),
        ("random", RunOptions(last="effort"), ["ingest", "surrogate", "effort"]),
        ("random", RunOptions(last="select"), ["ingest", "surrogate", "select"]),
    ],
)
def test_a_run_that_stops_early_goes_the_way_of_a_whole_one(
    tmp_path: Path, method: str, options: RunOptions, stages: list[str]
) -> None:
    config = parse_config({"data": {"interactions": "x"}, "select": {"method": method}}, "c")
    graph = Graph(stages_of(config), config, Storage.at(tmp_path))
    assert [stage.name for stage in chosen_stages(graph, options)] == stages


@pytest.mark.parametrize(
    ("method", "options", "stages"),
    [
        ("ccs", RunOptions(last="select"), ["ingest", "surrogate", "el2n", "select"]),
        ("ccs", RunOptions(last="el2n"), ["ingest", "surrogate", "el2n"]),
        ("ccs", RunOptions(only="el2n"), ["el2n"]),
        ("goracs", RunOptions(last="select"), ["ingest", "surrogate", "effort", "embedding", "select"]),
    ],
)
def test_a_run_has_the_features_that_its_selector_reads(
    tmp_path: Path, method: str, options: RunOptions, stages: list[str]
) -> None:
    config = parse_config({"data": {"interactions": "x"}, "select": {"method": method}}, "c")
    graph = Graph(stages_of(config), config, Storage.at(tmp_path))
    assert [stage.name for stage in chosen_stages(graph, options)] == stages
    for asked in (RunOptions(first="grand"), RunOptions(last="grand"), RunOptions(only="grand")):
        with pytest.raises(UserError, match=f"no stage grand .* {method} .* does not read"):
            chosen_stages(graph, asked)


def test_nothing_is_discarded_for_a_run_that_cannot_begin(
    small_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    command = ["run", str(small_run.config), "--run-dir", begun.uri]
    nowhere = ["--set", "data.interactions=/nowhere.csv"]
    crowded = ["--set", "surrogate.workers=99"]
    for more in (
        ["--fresh", *nowhere],
        ["--fresh", *crowded],
        ["--from", "surrogate", "--set", "finetune.offload=all"],
    ):
        assert main([*command, *more]) == 2
    for stage in ("data", "surrogate"):
        assert manifest(begun, stage) == manifest(small_run.run, stage)


@pytest.mark.parametrize("stage", ["surrogate", "finetune"])
def test_workers_that_cannot_be_scheduled_are_refused_before_anything_runs(
    ray_local: None, workspace: Path, tmp_path: Path, stage: str
) -> None:
    sections: dict[str, dict[str, object]] = {stage: {"workers": 99}}
    config = write_config(tmp_path, workspace / "log.parquet", workspace / "llm", **sections)
    assert main(["run", str(config), "--run-dir", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run" / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("actors", [2, 4])
def test_seven_shuffled_files_give_the_same_coreset(run: Storage, workspace: Path, tmp_path: Path, actors: int) -> None:
    """Beside the one actor of the run that it is held to."""
    table = small_log()
    order = np.random.default_rng(actors).permutation(table.num_rows)
    (tmp_path / "log").mkdir()
    for part, rows in enumerate(np.array_split(order, 7)):
        pq.write_table(table.take(rows), tmp_path / "log" / f"{part}.parquet")
    config = write_config(tmp_path, tmp_path / "log", workspace / "llm", cluster={"actors": actors})
    other = tmp_path / "run"
    assert main(["ingest", str(config), "--run-dir", str(other)]) == 0
    assert manifest(Storage.at(other), "data").content == manifest(run, "data").content
    shutil.copytree(workspace / "run" / "surrogate", other / "surrogate")
    assert main(["run", str(config), "--run-dir", str(other), "--until", "select"]) == 0
    for name in ("coreset/coreset.parquet", "coreset/selection.json"):
        assert Storage.at(other).read_bytes(name) == run.read_bytes(name)


def stage_times(folder: Storage) -> tuple[float, float]:
    """When the first stage began and the last one ended."""
    events = [json.loads(line) for line in folder.read_text("events.jsonl").splitlines()]
    return events[0]["time"], events[-1]["time"]


@pytest.mark.slow
def test_compare_shares_the_scores_and_adds_an_arm(run: Storage, workspace: Path, capsys: Any) -> None:
    before = manifest(run, "scores/effort")
    embedded = {path.name: path.stat().st_mtime_ns for path in Path(run.uri, "embeddings").glob("*/part-*.parquet")}
    command = ["compare", str(workspace / "config.yaml"), "--run-dir", run.uri, "--json"]
    command += ["--set", "finetune.workers=1", "--set", "finetune.epochs=1"]
    assert main([*command, "--selectors", "dealrec,random", "--draws", "2", "--arms-at-once", "2"]) == 0
    assert '"random"' in capsys.readouterr().out
    assert manifest(run, "scores/effort") == before
    arms = [run.child("arms", f"random-n24-s{seed}") for seed in (0, 1000)]
    for arm in arms:
        assert arm.child("coreset").read_json("selection.json")["method"] == "random"
    # The run's own model is no arm: another half of the validation users stops those.
    arms.append(run.child("arms", "dealrec-n24-s0"))
    for arm in arms:
        assert read_manifest(arm.child("eval")) is not None
    # Two were worked on at the same time.
    first, second, _ = sorted(stage_times(arm) for arm in arms)
    assert second[0] < first[1]
    # The arm ranks by the embeddings that the run computed.
    assert embedded
    after = {path.name: path.stat().st_mtime_ns for path in Path(run.uri, "embeddings").glob("*/part-*.parquet")}
    assert after == embedded


@pytest.mark.slow
def test_a_selector_that_reads_no_scores_has_none_computed(small_run: SmallRun, tmp_path: Path) -> None:
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    settings = ["select.method=reference_popularity", "finetune.workers=1", "finetune.epochs=1"]
    command = ["run", str(small_run.config), "--run-dir", run.uri, *(f"--set={each}" for each in settings)]
    assert main(command) == 0
    assert not run.exists("scores")
    assert "uses validation data" in run.read_text("report.html")
    assert main(["export", run.uri, "--out", str(tmp_path / "out")]) == 0
    # Asked for by name it is there, and the run stays as it is.
    coreset = run.read_bytes("coreset/coreset.parquet")
    assert main([*command, "--until", "influence"]) == 0
    assert manifest(run, "scores/influence").stage == "influence"
    assert main(command) == 0
    assert run.read_bytes("coreset/coreset.parquet") == coreset
