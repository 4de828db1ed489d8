"""A comparison by proxies on a small log: shares what can be shared, scores nothing that nobody asks for, resumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config_file import load_config
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import ragged_column
from pipeline.studies.compare.arms import Arm, arm_config
from pipeline.studies.compare.compared_users import read_users
from pipeline.studies.compare.costs import scoring_seconds
from tests.small_log import write_config, write_log
from tests.tiny_llm import make_tiny_llm
from training.ranking.ranking_metrics import user_metrics

pytestmark = pytest.mark.slow

SELECTORS = "random,popularity,reference_popularity,full"


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    make_tiny_llm(folder / "llm")
    return write_config(folder, write_log(folder / "log.parquet"), folder / "llm")


def command(config_file: Path, *more: str) -> list[str]:
    where = ["--run-dir", str(config_file.parent / "run")]
    return [
        "compare",
        str(config_file),
        *where,
        "--target",
        "proxy",
        "--sizes",
        "12,24",
        "--selectors",
        SELECTORS,
        *more,
    ]


@pytest.fixture(scope="module")
def compared(ray_local: None, config_file: Path) -> Storage:
    assert main(command(config_file, "--draws", "2")) == 0
    return Storage.at(config_file.parent / "run")


def parts(run: Storage) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(run.uri, "arms", "_proxies").glob("part-*.parquet")}


def test_every_arm_is_there_and_nothing_was_scored(compared: Storage) -> None:
    result = compared.read_json("arms/comparison-proxy.json")
    assert result["asked"] == result["tried"] == 2 * 2 + 2 + 2 + 1
    assert len(parts(compared)) == result["asked"] + 1
    found = {(row["model"], row["selector"], row["size"]) for row in result["rows"]}
    sized = {(name, size) for name in ("random", "popularity", "reference_popularity") for size in (12.0, 24.0)}
    whole = {("zero-shot", None), ("full", None)}
    assert found == {(model, *rest) for model in ("semantic", "lexical") for rest in sized | whole}
    assert not compared.exists("surrogate")
    assert not compared.exists("scores")
    assert compared.size("arms/comparison-proxy.html") > 0
    assert compared.child("arms", "random-n12-s1000", "coreset").read_json("selection.json")["chosen"] == 12


def test_figures_come_from_the_ranks_of_all_users(compared: Storage, config_file: Path) -> None:
    config = load_config(str(config_file), [])
    users = read_users(config, compared.child("data"))
    assert len(users["test"]) == config.evaluate.users
    result = compared.read_json("arms/comparison-proxy.json")
    rows = {(row["model"], row["selector"], row["size"]): row["metrics"] for row in result["rows"]}
    means: dict[str, set[float]] = {"test": set(), "valid": set()}
    for name in parts(compared):
        table = compared.read_table(f"arms/_proxies/{name}")
        for split, asked in users.items():
            mask = np.array([row == ["semantic", split] for row in zip_columns(table)])
            ranks = ragged_column(table.filter(mask), "ranks")
            assert np.array_equal(ranks.lengths, asked.targets.lengths)
            means[split].add(round(float(user_metrics(ranks)["ndcg@10"].mean()), 9))
    for split, known in means.items():
        assert round(rows["semantic", "popularity", 12.0][split]["ndcg@10"]["value"], 9) in known


def zip_columns(table: Any) -> list[list[str]]:
    return [list(pair) for pair in zip(table["model"].to_pylist(), table["split"].to_pylist(), strict=True)]


def test_aimed_selectors_leave_half_of_the_validation_users_to_choose_by(compared: Storage, config_file: Path) -> None:
    report = compared.read_json("arms/reference_popularity-n12-s0/coreset/selection.json")
    assert (report["sees_validation"], report["reference_users"]) == (True, "half")
    users = read_users(load_config(str(config_file), []), compared.child("data"))
    aimed = report["reference_samples"]
    total = compared.read_json("data/statistics.json")["samples"]["valid"]
    assert 0 < aimed < total
    assert 0 < len(users["valid"]) < total


def test_what_is_done_is_not_done_again_and_more_is_added(
    compared: Storage, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, figures = parts(compared), compared.read_bytes("arms/comparison-proxy.json")
    assert main(command(config_file, "--draws", "2")) == 0
    assert parts(compared) == before
    assert compared.read_bytes("arms/comparison-proxy.json") == figures
    # A killed pass: one arm is missing, and comes back as it was.
    name = sorted(before)[0]
    lost = compared.read_bytes(f"arms/_proxies/{name}")
    compared.delete(f"arms/_proxies/{name}")
    capsys.readouterr()
    assert main(command(config_file, "--draws", "3", "--json")) == 0
    result = json.loads(capsys.readouterr().out)["comparison"]
    assert compared.read_bytes(f"arms/_proxies/{name}") == lost
    after = parts(compared)
    assert result["tried"] == result["asked"] == 11
    assert {key: after[key] for key in before if key != name} == {key: before[key] for key in before if key != name}
    assert len(after) == len(before) + 2


def test_other_settings_leave_the_run_as_it_is_and_stale_arms_name_their_folder(
    compared: Storage, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("config.yaml", "arms/config-proxy.yaml")
    before = [compared.read_text(name) for name in names]
    assert main(command(config_file, "--draws", "2", "--set", "select.strata=7")) == 2
    message = capsys.readouterr().err
    assert "Remove" in message
    assert "random-n12-s0" in message
    assert "--from" not in message
    assert [compared.read_text(name) for name in names] == before


def test_a_table_without_its_control_says_so(
    compared: Storage, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    # The last of two is what counts.
    assert main(command(config_file, "--selectors", "popularity", "--json")) == 0
    result = json.loads(capsys.readouterr().out)["comparison"]
    assert result["warnings"] == ["random is not among the selectors, so the tables show no differences from it"]
    assert not any("difference" in found for row in result["rows"] for found in row["metrics"]["test"].values())


def test_arms_may_read_features_of_different_settings(ray_local: None, config_file: Path, tmp_path: Path) -> None:
    aimed = "influence+influence=reference"
    command = ["compare", str(config_file), "--run-dir", str(tmp_path), "--target", "proxy", "--proxies", "lexical"]
    command += ["--sizes", "12", "--selectors", f"random,el2n,{aimed},{aimed}+reference=0.2"]
    assert main(command) == 0
    run = Storage.at(tmp_path)
    made = [read_manifest(Storage.at(path)) for path in sorted((tmp_path / "scores" / "surrogate").iterdir())]
    features = [manifest for manifest in made if manifest is not None]
    assert [manifest.stage for manifest in features] == ["el2n", "reference_influence", "reference_influence"]
    assert {manifest.fingerprint.config["select.reference"] for manifest in features[1:]} == {"valid", 0.2}
    # They are stages of the run, in its events and in the bill of the arms that read them.
    events = [json.loads(line) for line in run.read_text("events.jsonl").splitlines()]
    done = [event["stage"] for event in events if event["event"] == "stage_done"]
    assert done.count("el2n") == 1
    assert done.count("reference_influence") == 2
    config = load_config(str(config_file), [])
    trained = read_manifest(run.child("surrogate"))
    assert trained is not None
    bill = scoring_seconds(arm_config(config, Arm("el2n", 12, 0)), run)
    assert bill == trained.seconds + features[0].seconds
    report = run.read_json(f"arms/{aimed}+reference=0.2-n12-s0/coreset/selection.json")
    assert (report["sees_validation"], report["reference"]) == (False, 0.2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--proxies", "tf"), "unknown proxy tf"),
        (("--sizes", "9999"), "9,999 samples are asked for"),
        (("--seeds", "0"), "--seeds must be from 1 to 999, got 0"),
    ],
)
def test_the_users_fault_is_two(
    compared: Storage, config_file: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert main(command(config_file, *more)) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
