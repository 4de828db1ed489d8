"""A surrogate of a user's own goes through training and every kind of solver by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.cli import main
from pipeline.manifest import read_manifest
from tests.small_log import write_config, write_log


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["cg", "ekfac"])
def test_it_trains_and_is_scored(ray_local: None, tmp_path: Path, solver: str) -> None:
    config = write_config(
        tmp_path,
        write_log(tmp_path / "log.parquet"),
        Path("no-llm"),
        surrogate={"model": "tests.own_surrogate:build", "settings": {"width": 8}, "lr": 0.05},
        influence={"solver": solver, "scope": ["mix"]},
    )
    run = tmp_path / "run"
    assert main(["run", str(config), "--run-dir", str(run), "--until", "influence"]) == 0
    facts = read_manifest(Storage.at(str(run)).child("scores", "influence"))
    assert facts is not None
    assert facts.facts["scope"] == ["mix.weight", "mix.bias"]
    assert facts.facts["rms"] > 0
    assert facts.facts["identity_error"] < 1e-3
