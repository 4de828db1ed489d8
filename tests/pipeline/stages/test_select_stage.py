import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.progress import LineProgress
from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config_file import load_config, parse_config
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph, StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import score_table
from pipeline.stages.influence_stage import run_influence
from pipeline.stages.select_stage import run_select
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.stages.stage_list import stages_before_selection
from scoring.selection import METHODS
from tests.small_run import SmallRun

SHARDS, ROWS = 3, 20


def context(folder: Path, **select: object) -> StageContext:
    """Three shards of 20 samples; in each, row 0 has no finite influence and row 1 was skipped for effort."""
    run = Storage.at(folder)
    generator = np.random.default_rng(0)
    for index in range(SHARDS):
        ids = np.arange(index * ROWS, (index + 1) * ROWS, dtype=np.int64)
        samples = {
            "sample_id": pa.array(ids),
            "user_id": pa.array([f"u{i}" for i in ids]),
            "history": pa.array([[1, 2]] * ROWS, pa.list_(pa.int32())),
            "target": pa.array([3] * ROWS, pa.int32()),
        }
        run.write_table(f"data/samples/train/{shard_name(index)}.parquet", pa.table(samples))
        influence, effort = generator.normal(size=(2, ROWS)).astype(np.float32)
        influence[0] = np.nan
        skipped = np.arange(ROWS) == 1
        effort[1] = np.nan
        none = np.zeros(ROWS, dtype=np.bool_)
        run.write_table(f"i/{shard_name(index)}.parquet", score_table(ids, "influence", influence, none))
        run.write_table(f"e/{shard_name(index)}.parquet", score_table(ids, "effort", effort, skipped))
    config = parse_config({"data": {"interactions": "x"}, "select": select}, "c")
    folders = {"ingest": run.child("data"), "influence": run.child("i"), "effort": run.child("e")}
    return StageContext(config, run, run.child("coreset"), folders, LineProgress("select"))


def test_only_rows_that_are_ok_in_both_scores_are_chosen(tmp_path: Path) -> None:
    stage = context(tmp_path, size=50, hard_prune=0.0)
    facts = run_select(stage)
    assert facts["usable"] == SHARDS * (ROWS - 2)
    coreset = stage.out.read_table("coreset.parquet")
    ids = coreset.column("sample_id").to_numpy()
    assert len(ids) == 50
    assert set(ids % ROWS) <= set(range(2, ROWS))
    assert coreset.column_names == [
        "sample_id",
        "user_id",
        "history",
        "target",
        "influence",
        "effort",
        "score",
        "stratum",
    ]
    assert coreset.column("user_id").to_pylist() == [f"u{i}" for i in ids]


def test_random_may_choose_any_row(tmp_path: Path) -> None:
    stage = context(tmp_path, size=SHARDS * ROWS, method="random")
    run_select(stage)
    assert stage.out.read_table("coreset.parquet").num_rows == SHARDS * ROWS


def test_the_report_says_whether_validation_was_seen(tmp_path: Path) -> None:
    stage = context(tmp_path, size=5)
    run_select(stage)
    assert stage.out.read_json("selection.json")["sees_validation"] is False
    aimed = replace(stage, config=parse_config({"data": {"interactions": "x"}, "influence": {"target": "valid"}}, "c"))
    run_select(aimed)
    assert stage.out.read_json("selection.json")["sees_validation"] is True


def test_aimed_methods_need_a_reference_period(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="density_ratio is aimed"):
        run_select(context(tmp_path, method="density_ratio"))
    with pytest.raises(UserError, match=r"select.reference: 0.1 .* no times"):
        run_select(context(tmp_path, method="density_ratio", reference=0.1))


def test_a_selector_of_ones_own_chooses_by_its_settings(tmp_path: Path) -> None:
    stage = context(tmp_path, size=5, method="tests.own_selectors:ByTarget")
    assert run_select(stage)["chosen"] == 5
    report = stage.out.read_json("selection.json")
    assert (report["method"], report["sees_validation"]) == ("tests.own_selectors:ByTarget", False)
    narrow = context(tmp_path, size=9, method="tests.own_selectors:Narrow", strata=3, settings={"lambda": 2.0})
    run_select(narrow)
    report = narrow.out.read_json("selection.json")
    assert (report["lambda"], len(report["strata"])) == (2.0, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Newest", "select.method tests.own_selectors:Newest: it needs the feature timestamp"),
        ("FailsByTarget", r"ZeroDivisionError: .* \(own_selectors.py, line"),
    ],
)
def test_what_a_selector_of_ones_own_does_wrong_is_the_users_fault(tmp_path: Path, name: str, words: str) -> None:
    stage = context(tmp_path, size=5, method=f"tests.own_selectors:{name}")
    with pytest.raises(UserError, match=words) as caught:
        run_select(stage)
    assert "docs/EXTENDING.md" in caught.value.remedy
    assert not stage.out.exists("coreset.parquet")


def test_more_samples_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"select.size: .*61.*60"):
        run_select(context(tmp_path, size=SHARDS * ROWS + 1))


def test_scores_that_are_all_unusable_are_no_matter_of_size(tmp_path: Path) -> None:
    stage = context(tmp_path, size=5)
    folder = stage.folder("effort")
    for name in folder.list(suffix=".parquet"):
        table = folder.read_table(name)
        skipped = np.full(table.num_rows, np.nan, dtype=np.float32)
        ids = table.column("sample_id").to_numpy()
        folder.write_table(name, score_table(ids, "effort", skipped, np.ones(len(ids), dtype=np.bool_)))
    with pytest.raises(UserError, match=r"select.method dealrec: none of the 60 .* column status"):
        run_select(stage)


@pytest.fixture(scope="module")
def scored(small_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Storage]:
    """A config, and a run with all scores."""
    run = small_run.begin(tmp_path_factory.mktemp("select"), "data", "surrogate", "scores")
    return small_run.config, Storage.at(run)


def select_by(scored: tuple[Path, Storage], **keys: object) -> tuple[Storage, dict[str, Any]]:
    """The folder of a selection by those keys, and its report."""
    path, run = scored
    settings = [f"select.{key}={value}" for key, value in keys.items()]
    config = load_config(str(path), settings)
    graph = Graph(stages_before_selection(config), config, run)
    features = [stage for stage in graph.stages if stage.name in FEATURE_NAMES]
    graph.execute(features, EventLog(run))
    folders = {stage.name: graph.folder(stage) for stage in graph.stages}
    out = run.child("arms", "-".join(settings), "coreset")
    run_select(StageContext(config, run, out, folders, LineProgress("select")))
    return out, out.read_json("selection.json")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_selects_from_a_run(scored: tuple[Path, Storage], method: str) -> None:
    out, report = select_by(scored, method=method)
    coreset = out.read_table("coreset.parquet")
    assert coreset.num_rows == report["chosen"] == (report["usable"] if method == "full" else 24)
    assert report["sees_validation"] == METHODS[method].sees_validation
    rows = coreset.select(["user_id", "history", "target"]).to_pylist()
    part = "valid" if method == "reference" else "train"
    known = read_part(scored[1], part)
    assert all((row["user_id"], tuple(row["history"]), row["target"]) in known for row in rows)


def read_part(run: Storage, part: str) -> set[tuple[str, tuple[int, ...], int]]:
    rows = []
    for name in run.list(f"data/samples/{part}", suffix=".parquet"):
        rows += run.read_table(f"data/samples/{part}/{name}").to_pylist()
    return {
        (row["user_id"], tuple(row["history"]), target)
        for row in rows
        for target in (row["targets"] if part == "valid" else [row["target"]])
    }


def test_one_derived_from_the_control_takes_the_reference_too(scored: tuple[Path, Storage]) -> None:
    own, built_in = (
        select_by(scored, method=name)[0].read_table("coreset.parquet", ["sample_id", "user_id", "target"])
        for name in ("tests.own_selectors:LateReference", "reference")
    )
    assert own.equals(built_in)


def test_features_of_the_surrogate_are_computed_once(scored: tuple[Path, Storage]) -> None:
    select_by(scored, method="el2n", seed=1)
    (folder,) = [path for path in Path(scored[1].uri, "scores", "surrogate").iterdir() if path.name.startswith("el2n")]
    written = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
    assert len(written) == 24
    select_by(scored, method="ccs", seed=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")} == written


@pytest.mark.slow
def test_an_influence_on_the_validation_risk_is_that_of_the_stage(scored: tuple[Path, Storage]) -> None:
    """The same risk by another way: all validation samples held by the driver, instead of read shard by shard."""
    path, run = scored
    folders = {"ingest": run.child("data"), "surrogate": run.child("surrogate")}
    stage_out = run.child("elsewhere")
    aimed = load_config(str(path), ["influence.target=valid"])
    run_influence(StageContext(aimed, run, stage_out, folders, LineProgress("influence")))
    out, report = select_by(scored, influence="reference", hard_prune=0)
    assert (report["sees_validation"], report["reference_users"]) == (True, "all")
    expected: dict[int, float] = {}
    for name in stage_out.list(suffix=".parquet"):
        table = stage_out.read_table(name, ["sample_id", "influence"])
        expected |= dict(zip(table["sample_id"].to_pylist(), table["influence"].to_pylist(), strict=True))
    coreset = out.read_table("coreset.parquet", ["sample_id", "influence"])
    found = coreset["influence"].to_numpy()
    wanted = np.array([expected[sample] for sample in coreset["sample_id"].to_pylist()])
    assert np.abs(found - wanted).max() < 1e-5 * np.sqrt(np.mean(np.square(list(expected.values()))))
    (folder,) = Path(run.uri, "scores", "surrogate").glob("influence-*")
    written = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
    _, late = select_by(scored, influence="reference", reference=0.2, method="influence")
    assert (late["sees_validation"], late["reference"]) == (False, 0.2)
    select_by(scored, influence="reference", method="influence", seed=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")} == written


@pytest.mark.slow
def test_aimed_scores_that_are_not_finite_are_refused_every_time(scored: tuple[Path, Storage]) -> None:
    settings = {"influence": "reference", "method": "influence", "reference": 0.3}
    folders = Path(scored[1].uri, "scores", "surrogate")
    before = set(folders.glob("influence-*"))
    select_by(scored, **settings)
    (made,) = set(folders.glob("influence-*")) - before
    folder, marker = Storage.at(made), "_shards/part-00000.json"
    record = folder.read_json(marker)
    folder.write_json(marker, record | {"facts": record["facts"] | {"nonfinite": record["rows"]}})
    # What was refused has all of its shards, and no manifest.
    folder.delete("_manifest.json")
    for _ in range(2):
        with pytest.raises(UserError, match="not finite"):
            select_by(scored, **settings)
    folder.write_json(marker, record)
    select_by(scored, **settings)


def test_methods_without_influence_are_not_aimed_by_it(scored: tuple[Path, Storage]) -> None:
    _, report = select_by(scored, method="random", influence="reference")
    assert report["sees_validation"] is False
    assert "reference" not in report


def test_a_reference_out_of_train_sees_no_validation(scored: tuple[Path, Storage]) -> None:
    out, report = select_by(scored, method="reference", reference=0.2)
    assert (report["sees_validation"], report["reference"]) == (False, 0.2)
    times = []
    for name in scored[1].list("data/samples/train", suffix=".parquet"):
        times += scored[1].read_table(f"data/samples/train/{name}").select(["sample_id", "timestamp"]).to_pylist()
    ordered = sorted(row["timestamp"] for row in times)
    earliest = ordered[len(ordered) - round(0.2 * len(ordered))]
    chosen = set(out.read_table("coreset.parquet").column("sample_id").to_pylist())
    late = {row["sample_id"] for row in times if row["timestamp"] >= earliest}
    assert report["reference_samples"] == len(late)
    assert chosen <= late


def test_ids_of_reference_samples_are_those_of_their_place_in_the_log(scored: tuple[Path, Storage]) -> None:
    out, _ = select_by(scored, method="reference", size=60)
    valid: dict[str, int] = {}
    for name in scored[1].list("data/samples/valid", suffix=".parquet"):
        table = scored[1].read_table(f"data/samples/valid/{name}")
        valid |= dict(zip(table.column("user_id").to_pylist(), table.column("sample_id").to_pylist(), strict=True))
    coreset = out.read_table("coreset.parquet")
    for user, sample in zip(coreset["user_id"].to_pylist(), coreset["sample_id"].to_pylist(), strict=True):
        assert valid[user] == sample


def test_a_feature_is_a_stage_of_the_run(small_run: SmallRun, tmp_path: Path) -> None:
    run = Storage.at(small_run.begin(tmp_path / "run", "data", "surrogate"))
    command = ["run", str(small_run.config), "--run-dir", run.uri, "--set", "select.method=ccs"]
    assert main([*command, "--until", "select"]) == 0
    (folder,) = (run.child("scores", "surrogate", path.name) for path in Path(run.uri, "scores", "surrogate").iterdir())
    made = read_manifest(folder)
    assert made is not None
    assert (made.stage, made.attempts, len(made.outputs)) == ("el2n", 1, 24)
    assert made.facts["rows"] == run.read_json("data/statistics.json")["samples"]["train"]
    events = [json.loads(line) for line in run.read_text("events.jsonl").splitlines()]
    begun = next(event for event in events if event["event"] == "stage_begun" and event["stage"] == "el2n")
    assert run.uri + "/" + begun["folder"] == folder.uri
    coreset = read_manifest(run.child("coreset"))
    assert main([*command, "--until", "select", "--from", "el2n"]) == 0
    again, chosen = read_manifest(folder), read_manifest(run.child("coreset"))
    assert again is not None
    assert chosen is not None
    assert coreset is not None
    assert again.finished > made.finished
    assert (again.content, chosen.content) == (made.content, coreset.content)
    assert main(["grand", *command[1:]]) == 2
