"""A surrogate of a user's own goes through training and every kind of solver by its name alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.manifest import read_manifest
from tests.small_log import write_config, write_log

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `config.yaml` and `run`, complete up to the surrogate."""
    folder = tmp_path_factory.mktemp("own")
    config = write_config(
        folder,
        write_log(folder / "log.parquet"),
        Path("no-llm"),
        surrogate={"model": "tests.own_surrogate:build", "settings": {"width": 8}, "lr": 0.05},
        influence={"scope": ["mix"]},
    )
    assert main(["run", str(config), "--run-dir", str(folder / "run"), "--until", "surrogate"]) == 0
    return folder


def test_a_feature_that_is_written_for_another_is_the_users_fault(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    command = ["compare", str(trained / "config.yaml"), "--run-dir", str(run), "--target", "proxy"]
    assert main([*command, "--selectors", "random,el2n", "--proxies", "lexical"]) == 2
    assert "el2n is written for the surrogate sasrec" in capsys.readouterr().err


def test_it_is_audited_over_its_own_scopes(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    command = ["audit", str(trained / "config.yaml"), "--run-dir", str(run), "--json", "--set", "audit.subsets=3"]
    assert main([*command, "--set", "audit.scopes=[last_layer]"]) == 2
    assert "Use the surrogate's scopes (mix, all)" in capsys.readouterr().err
    assert not (run / "retrained" / "planted").exists()
    assert main([*command, "--set", "audit.solvers=[cg]", "--set", "audit.dampings=[0.1]"]) == 0
    rows = {row["label"]: row for row in json.loads(capsys.readouterr().out)["audit"]["scores"]}
    assert rows["cg/mix/0.1"]["error"] is None
    assert "SASRec" in rows["released"]["error"]


@pytest.mark.parametrize("solver", ["cg", "ekfac"])
def test_it_trains_and_is_scored(trained: Path, tmp_path: Path, solver: str) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    command = ["influence", str(trained / "config.yaml"), "--run-dir", str(run)]
    assert main([*command, "--set", f"influence.solver={solver}"]) == 0
    facts = read_manifest(Storage.at(str(run)).child("scores", "influence"))
    assert facts is not None
    assert facts.facts["scope"] == ["mix.weight", "mix.bias"]
    assert facts.facts["rms"] > 0
    assert facts.facts["identity_error"] < 1e-3
