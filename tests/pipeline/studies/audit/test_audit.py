"""The audit on real Ray, on a small log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import spearmanr

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config import InfluenceConfig
from pipeline.engine.config_file import load_config
from pipeline.engine.sample_tables import SampleShard
from pipeline.stages.surrogate_source import on_one_thread, trained_surrogate
from pipeline.stages.surrogate_stage import surrogate_spec
from pipeline.studies.audit.audit_arms import CONTROLS, subset_arms
from pipeline.studies.audit.audit_stage import recommended
from pipeline.studies.audit.audit_table import recommended_setting
from pipeline.studies.audit.loaded_log import AuditLog
from scoring.batching import collate
from scoring.gradients import per_sample_gradients
from tests.small_log import small_log, write_config, write_log
from training.loops.surrogate_data import item_counts
from training.loops.surrogate_retrain import retrain_surrogate

SETTINGS = {
    "solvers": ["none", "cg", "ekfac", "exact", "lissa"],
    "scopes": ["last_layer", "final_norm.*"],
    "dampings": [0.05],
    "subsets": 6,
    "draws": 1,
    "planted": 0.4,
    "released_steps": 100,
}


@pytest.fixture(scope="module")
def audited(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Storage]:
    folder = tmp_path_factory.mktemp("audited")
    config = write_config(
        folder,
        write_log(folder / "log.parquet", small_log(150)),
        Path("no-llm"),
        surrogate={"hidden": 16, "epochs": 12, "batch_tokens": 512, "lr": 0.01},
        audit=SETTINGS,
        influence={"lissa_steps": 50},
    )
    command = ["audit", str(config), "--run-dir", str(folder / "run"), "--json"]
    assert main(command) == 0
    return command, Storage.at(folder / "run")


def result(run: Storage) -> dict[str, Any]:
    found: dict[str, Any] = run.child("audit").read_json("audit.json")
    return found


@pytest.mark.slow
def test_every_way_is_scored_or_says_why_not(audited: tuple[list[str], Storage]) -> None:
    rows = {row["label"]: row for row in result(audited[1])["scores"]}
    assert set(CONTROLS) < set(rows)
    assert len(rows) == 10 + len(CONTROLS)
    for label, row in rows.items():
        if label == "ekfac/final_norm.*/0.05":
            assert "linear" in row["error"]
            assert row["lds_train"] is None
        else:
            assert row["error"] is None
            for risk in ("train", "valid", "mean"):
                found = row[f"lds_{risk}"]
                assert -1 <= found["low"] <= found["value"] <= found["high"] <= 1
            assert row["seconds"] >= 0
    assert rows["cg/last_layer/0.05"]["residual"] < 1e-3
    assert rows["exact/last_layer/0.05"]["residual"] < 1e-3


def risks_of(run: Storage, arms: int, risk: str) -> np.ndarray:
    """Return risks [Q, M] as recorded when the models without random samples were trained."""
    folder = run.child("retrained", "subsets", "_shards")
    return np.array([folder.read_json(f"part-{arm:05d}.json")["facts"][f"{risk}_risks"] for arm in range(1, arms)]).T


@pytest.mark.slow
def test_the_linear_datamodeling_score_is_that_of_plain_sums(
    audited: tuple[list[str], Storage], tmp_path: Path
) -> None:
    """Predict by influence without curvature: the product of each query's gradient with the removed samples'."""
    command, run = audited
    config, rows = load_config(command[1], []), {row["label"]: row for row in result(run)["scores"]}
    source = trained_surrogate(run.child("surrogate"), Storage.at(tmp_path), ("last_layer",))
    objective, scope = source.build()
    log, arms = AuditLog.read(run.child("data")), subset_arms(config.audit)

    def gradients(samples: SampleShard) -> np.ndarray:
        found = np.empty((len(samples), scope.size))
        for places, batch in source.batches(samples):
            found[places] = per_sample_gradients(objective, scope, batch).numpy()
        return found

    lacking = np.stack([arm.removed(log.samples.sample_id, None) for arm in arms[1:]])
    of_samples = gradients(log.samples)
    removed = lacking @ of_samples
    for risk in ("train", "valid"):
        queries = log.queries(risk, config.audit.queries, config.audit.seed)
        asked = gradients(queries.samples)
        means = np.stack([asked[queries.group == group].mean(0) for group in range(queries.count)])
        measured = risks_of(run, len(arms), risk)
        expected = np.mean([spearmanr(*pair).statistic for pair in zip(means @ removed.T, measured, strict=True)])
        assert rows["none/last_layer"][f"lds_{risk}"]["value"] == pytest.approx(expected, abs=0.02)
    whole = of_samples.mean(0) @ removed.T
    folder = run.child("retrained", "subsets", "_shards")
    risks = [folder.read_json(f"part-{arm:05d}.json")["facts"]["train_risk"] for arm in range(1, len(arms))]
    assert rows["none/last_layer"]["lds_mean"]["value"] == pytest.approx(spearmanr(whole, risks).statistic, abs=0.02)


@pytest.mark.slow
def test_a_retrained_surrogate_is_measured_at_what_it_was_asked(audited: tuple[list[str], Storage]) -> None:
    command, run = audited
    config, log = load_config(command[1], []), AuditLog.read(run.child("data"))
    arms = subset_arms(config.audit)
    spec = surrogate_spec(config)
    removed = arms[2].removed(log.samples.sample_id, None)
    epochs = run.read_json("surrogate/metrics.json")["best_epoch"]
    counts = item_counts(run.child("data"))
    with on_one_thread():
        windows = log.windows(spec.max_history, removed)
        model = retrain_surrogate(spec, windows, counts, epochs, torch.device("cpu")).eval()
        for risk in ("train", "valid"):
            queries = log.queries(risk, config.audit.queries, config.audit.seed)
            losses = [
                model.per_sample_loss(collate(queries.samples.history, queries.samples.target, np.array([row]))).item()
                for row in range(len(queries.samples))
            ]
            means = [np.mean(np.array(losses)[queries.group == group]) for group in range(queries.count)]
            np.testing.assert_allclose(risks_of(run, len(arms), risk)[:, 1], means, rtol=1e-4)


@pytest.mark.slow
def test_planted_random_targets_score_below_clean_ones(audited: tuple[list[str], Storage]) -> None:
    rows = {row["label"]: row for row in result(audited[1])["scores"]}
    assert rows["exact/last_layer/0.05"]["auc"]["low"] > 0.5
    assert rows["random"]["auc"]["low"] < 0.5


@pytest.mark.slow
def test_solvers_of_the_same_system_give_the_same_scores(audited: tuple[list[str], Storage]) -> None:
    # The first requested scope is the first group, on the clean log.
    table = audited[1].child("audit", "scores").read_table("part-00000.parquet")
    exact, cg = (table[f"{solver}/last_layer/0.05"].to_numpy() for solver in ("exact", "cg"))
    assert np.abs(exact - cg).max() < 1e-3 * np.sqrt(np.mean(exact**2))


@pytest.mark.slow
def test_removals_are_measured_for_each_scope_and_control(audited: tuple[list[str], Storage]) -> None:
    found = result(audited[1])
    kinds = [(row["kind"], row["score"]) for row in found["removals"]]
    assert kinds[0] == ("random", None)
    assert {score for _, score in kinds[1:]} == set(found["best"])
    assert {row["removed"] for row in found["removals"]} == {round(0.1 * found["samples"])}


@pytest.mark.slow
def test_a_second_audit_finds_everything_done(audited: tuple[list[str], Storage], capsys: Any) -> None:
    command, run = audited
    before = run.read_bytes("audit/audit.json")
    capsys.readouterr()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["audit"] == json.loads(before)
    assert main([part for part in command if part != "--json"]) == 0
    table = capsys.readouterr().out
    assert "released" in table
    assert "not possible" in table


@pytest.mark.slow
def test_the_recommended_setting_can_be_put_into_a_config(audited: tuple[list[str], Storage]) -> None:
    found: Any = result(audited[1])
    setting = InfluenceConfig.model_validate(yaml.safe_load(recommended_setting(found))["influence"])
    assert setting.scope is not None
    parts = [setting.solver, *setting.scope]
    assert "/".join(parts) in found["recommended"]


@pytest.mark.slow
def test_other_ways_are_compared_on_the_models_that_are_there(
    audited: tuple[list[str], Storage], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, run = audited
    other = Path(shutil.copytree(run.uri, tmp_path / "run"))
    again = [*command[:3], str(other), "--set", "audit.solvers=[none]", "--set", "audit.scopes=[last_layer]"]
    assert main(again) == 2
    assert (
        f"Recompute with `dealrec audit CONFIG --run-dir {Storage.at(other).uri} --from audit`"
        in capsys.readouterr().err
    )
    before = (other / "retrained" / "_manifest.json").read_bytes()
    assert main([*again, "--from", "audit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["audit"]
    assert [row["label"] for row in found["scores"]] == ["none/last_layer", *CONTROLS]
    assert (other / "retrained" / "_manifest.json").read_bytes() == before
    # The audit does not depend on the run's own solver and damping.
    assert main([*again, "--set", "influence.solver=ekfac", "--set", "influence.damping=0.5"]) == 0


@pytest.mark.parametrize("scope", ["last_layer", "*", r"re:blocks\.[01].*", "a: b, c"])
def test_a_pattern_that_yaml_would_read_otherwise_is_quoted(scope: str) -> None:
    rows = [{"label": "a", "method": "cg", "scope": scope, "damping": 0.1}]
    result: Any = {"scores": rows, "recommended": "a"}
    text = recommended_setting(result)
    assert yaml.safe_load(text) == {"influence": {"solver": "cg", "scope": [scope], "damping": 0.1}}


def row(label: str, seconds: float, value: float, low: float, method: str = "cg", auc: Any = None) -> Any:
    risk = {"value": value, "low": low, "high": 1.0}
    return {"label": label, "method": method, "seconds": seconds, "lds_valid": risk, "auc": auc}


def test_the_cheapest_way_as_good_as_the_best_is_recommended() -> None:
    rows = [row("a", 9, 0.8, 0.6), row("b", 1, 0.7, 0.5), row("c", 0.5, 0.4, 0.2), row("r", 0, 0.9, 0.8, "random")]
    assert recommended(rows, "valid") == "b"
    assert recommended([row("r", 0, 0.9, 0.8, "random")], "valid") is None


def test_ways_are_held_against_the_best_over_the_resamples_that_they_share() -> None:
    """The wide intervals overlap, but one way is better in every shared resample."""
    rows = [row("a", 9, 0.8, 0.4), row("b", 1, 0.7, 0.3), row("c", 5, 0.75, 0.3)]
    draws = np.linspace(-0.4, 0.2, 50)
    for found, lead in zip(rows, (0.8, 0.7, 0.75), strict=True):
        found["lds_valid"]["resampled"] = tuple(draws + lead)
    assert recommended(rows, "valid") == "a"
    rows[2]["lds_valid"]["resampled"] = tuple(draws[::-1] + 0.75)
    assert recommended(rows, "valid") == "c"


def test_a_way_that_prefers_wrong_targets_is_not_recommended() -> None:
    misled, blind = {"value": 0.4, "low": 0.35, "high": 0.45}, {"value": 0.5, "low": 0.45, "high": 0.55}
    rows = [row("a", 1, 0.8, 0.6, auc=misled), row("b", 9, 0.7, 0.5, auc=blind)]
    assert recommended(rows, "valid") == "b"
    assert recommended(rows[:1], "valid") is None


def test_a_cheap_way_that_notices_fewer_wrong_targets_is_not_recommended() -> None:
    sharp, blunt = {"value": 0.7, "low": 0.68, "high": 0.72}, {"value": 0.65, "low": 0.63, "high": 0.67}
    rows = [
        row("a", 9, 0.8, 0.6, auc=sharp),
        row("b", 1, 0.7, 0.5, auc=blunt),
        row("c", 5, 0.7, 0.5, auc={"value": 0.69, "low": 0.6, "high": 0.8}),
        row("d", 2, 0.5, 0.4, auc={"value": 0.9, "low": 0.89, "high": 0.91}),
    ]
    assert recommended(rows, "valid") == "c"
