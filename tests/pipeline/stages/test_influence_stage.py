"""Stage influence on real Ray: the scores do not depend on partition, workers or where the curvature is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.shards import ShardRecord
from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config import Config, InfluenceConfig
from pipeline.engine.config_file import load_config
from pipeline.engine.graph import StageContext
from pipeline.stages.influence_passes import Risk
from pipeline.stages.influence_solve import InfluenceSolve, SolveFacts
from pipeline.stages.influence_stage import check_scores, score_influence
from pipeline.stages.scoring_pass import ScoringPass
from scoring.curvature_draw import CurvatureCut
from scoring.surrogate import build_surrogate
from tests.small_run import SmallRun


@dataclass(frozen=True)
class Prepared:
    """One log in two partitions, and a surrogate of it."""

    config: Config
    surrogate: Storage
    data: dict[int, Storage]


@pytest.fixture(scope="module")
def prepared(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    other = tmp_path_factory.mktemp("influence")
    command = ["ingest", str(small_run.config), "--run-dir", str(other / "run"), "--set", "samples.shards=5"]
    assert main(command) == 0
    data = {12: small_run.run.child("data"), 5: Storage.at(other / "run").child("data")}
    return Prepared(load_config(str(small_run.config), []), small_run.run.child("surrogate"), data)


def scores(
    prepared: Prepared,
    out: Path,
    shards: int = 12,
    actors: int = 1,
    cut: CurvatureCut | None = None,
    **keys: Any,
) -> tuple[dict[int, float], dict[str, Any]]:
    """Influence by sample id, and the facts of the stage."""
    config = prepared.config.model_copy(
        update={
            "influence": prepared.config.influence.model_copy(update=keys),
            "cluster": prepared.config.cluster.model_copy(update={"actors": actors}),
        }
    )
    target = Storage.at(out)
    folders = {"ingest": prepared.data[shards], "surrogate": prepared.surrogate}
    context = StageContext(config, target, target, folders, SilentProgress())
    facts = score_influence(context, Risk(config.influence.target), cut)
    found: dict[int, float] = {}
    for name in target.list(suffix=".parquet"):
        table = target.read_table(name)
        found |= dict(zip(table["sample_id"].to_pylist(), table["influence"].to_pylist(), strict=True))
    return found, dict(facts)


def difference(one: dict[int, float], other: dict[int, float]) -> float:
    """The largest, as a share of the root mean square."""
    assert set(one) == set(other)
    rms = np.sqrt(np.mean(np.square(list(one.values()))))
    return float(max(abs(one[key] - other[key]) for key in one) / rms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "solver", "pools"),
    [("valid", "cg", (4,)), ("valid", "exact", (4,)), ("train", "lissa", (4,)), ("train", "ekfac", (2, 4))],
)
def test_partition_and_workers_do_not_matter(
    prepared: Prepared,
    tmp_path: Path,
    target: str,
    solver: str,
    pools: tuple[int, ...],
) -> None:
    # Several chunks, not all of one size, so that several workers have curvature to add up.
    keys: dict[str, Any] = {"target": target, "solver": solver, "lissa_steps": 10, "cut": CurvatureCut(chunk=15)}
    whole, facts = scores(prepared, tmp_path / "a", **keys)
    for actors in pools:
        other, more = scores(prepared, tmp_path / f"by-{actors}", shards=5, actors=actors, **keys)
        assert difference(whole, other) < 1e-5
        assert more["workers"] == actors
    assert facts["workers"] == 1
    assert solver in ("lissa", "ekfac") or facts["residual"] <= 1e-5
    assert facts["nonfinite"] == 0
    assert facts["curvature_samples"] == 64


@pytest.mark.slow
def test_a_solve_that_failed_leaves_the_gradient_to_the_next(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = scores(prepared, tmp_path / "undisturbed")
    with pytest.raises(UserError, match=r"influence\.solver cg"):
        scores(prepared, tmp_path / "out", solver="cg", max_iterations=1, tolerance=1e-12)

    def read_again(self: InfluenceSolve, pool: object, parts: int) -> None:
        pytest.fail(f"the {self.risk.target} samples are read again")

    monkeypatch.setattr(InfluenceSolve, "_gradient_sums", read_again)
    found, facts = scores(prepared, tmp_path / "out")
    assert found == whole
    assert facts["risk_samples"] == len(whole)


@pytest.mark.slow
def test_curvature_over_the_shards_is_that_over_kept_samples(prepared: Prepared, tmp_path: Path) -> None:
    kept, facts = scores(prepared, tmp_path / "kept", curvature_samples="all")
    # The shards are the chunks then, and these are others.
    few = CurvatureCut(kept=10)
    read, again = scores(prepared, tmp_path / "read", curvature_samples="all", actors=2, shards=5, cut=few)
    assert facts["curvature_samples"] == again["curvature_samples"] == len(kept)
    assert difference(kept, read) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("prepared_samples", [1 << 16, 10])
def test_samples_without_a_finite_score_are_marked_and_in_no_mean(
    prepared: Prepared, tmp_path: Path, prepared_samples: int
) -> None:
    """Those with an item whose embedding is broken, which is no candidate of the others."""
    cut = CurvatureCut(kept=prepared_samples)
    metrics = prepared.surrogate.read_json("metrics.json")
    metrics["config"] |= {"loss": "sampled", "negatives": 4}
    model = build_surrogate(metrics["surrogate"], metrics["item_count"], metrics["config"])
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    bad_item = next(item for item in range(1, 50) if item not in weights["frozen_negatives"])
    weights["item_embedding.weight"][bad_item] = np.nan
    broken = Storage.at(tmp_path / "broken")
    broken.write_bytes("model.safetensors", save(weights))
    broken.write_json("metrics.json", metrics)
    faulty = replace(prepared, surrogate=broken)
    found, facts = scores(faulty, tmp_path / "out", cut=cut, curvature_samples="all", max_nonfinite=0.9)
    bad = 0
    for name in prepared.data[12].list("samples/train", suffix=".parquet"):
        samples = prepared.data[12].read_table(f"samples/train/{name}", ["sample_id", "history", "target"])
        for row in samples.to_pylist():
            broken_row = bad_item in (*row["history"], row["target"])
            assert np.isfinite(found[row["sample_id"]]) == (not broken_row)
            bad += broken_row
        status = Storage.at(tmp_path / "out").read_table(name, ["status", "influence"])
        finite = [bool(np.isfinite(value)) for value in status["influence"].to_pylist()]
        assert [state == "ok" for state in status["status"].to_pylist()] == finite
    assert facts["nonfinite"] == bad > 0
    assert facts["curvature_samples"] == facts["risk_samples"] == facts["rows"] - bad
    with pytest.raises(UserError, match="influence scores are not finite"):
        scores(faulty, tmp_path / "refused", cut=cut, curvature_samples="all")


@pytest.mark.slow
def test_a_solver_that_fails_names_its_keys(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"influence\.solver cg: .*after 1 iterations") as caught:
        scores(prepared, tmp_path, solver="cg", max_iterations=1)
    assert "influence.max_iterations" in caught.value.remedy
    with pytest.raises(UserError, match=r"influence\.solver lissa: lissa diverged") as caught:
        scores(prepared, tmp_path, solver="lissa", lissa_scale=1e-6)
    assert "influence.lissa_scale" in caught.value.remedy


def solved(v_dot_h: float) -> SolveFacts:
    return SolveFacts("train", "none", [], 1, 1, 0, None, 0, v_dot_h, 0.0, 0.0)


def test_scores_that_are_not_finite_stop_the_stage_above_the_allowed_share() -> None:
    facts = {"sum": 3.0, "squares": 5.0, "nonfinite": 1}
    scored = ScoringPass([ShardRecord(0, 4, "", 1, facts)], 1)
    with pytest.raises(UserError, match="1 of 4 influence scores are not finite"):
        check_scores(InfluenceConfig(max_nonfinite=0.2), solved(1.0), scored)
    found = check_scores(InfluenceConfig(max_nonfinite=0.25), solved(1.0), scored)
    assert (scored.facts()["rows"], found["nonfinite"], found["mean"]) == (4, 1, 1.0)


def test_a_mean_that_is_not_the_inner_product_is_a_fault() -> None:
    scored = ScoringPass([ShardRecord(0, 2, "", 1, {"sum": 2.0, "squares": 2.0, "nonfinite": 0})], 1)
    assert check_scores(InfluenceConfig(), solved(1.0), scored)["identity_error"] == 0
    with pytest.raises(ArithmeticError, match="is not"):
        check_scores(InfluenceConfig(), solved(1.1), scored)
