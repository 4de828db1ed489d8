from pathlib import Path

import pytest

from cluster.digest import json_digest
from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config, InfluenceConfig
from pipeline.engine.config_file import parse_config
from pipeline.engine.events import EventLog
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.stages.feature_list import FEATURE_STAGES
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.stages.stage_list import STAGE_NAMES, STAGES, stage_names_of, stages_of
from training.loops.finetune_spec import HOW_ONLY


def configured(select: dict[str, str], **effort: float) -> Config:
    return parse_config({"data": {"interactions": "x"}, "select": select, "effort": effort}, "c")


@pytest.mark.parametrize(
    ("settings", "without"),
    [
        ({"method": "dealrec"}, set()),
        ({"method": "goracs"}, {"influence"}),
        ({"method": "effort"}, {"influence"}),
        ({"method": "dealrec", "influence": "reference"}, {"influence"}),
        ({"method": "influence"}, {"effort"}),
        ({"method": "influence", "influence": "reference"}, {"influence", "effort"}),
        ({"method": "reference_popularity"}, {"influence", "effort"}),
    ],
)
def test_a_run_scores_only_what_its_selector_reads(settings: dict[str, str], without: set[str]) -> None:
    config = configured(settings)
    assert set(STAGE_NAMES) - set(stage_names_of(config)) == without
    # One that was asked for by name is there all the same.
    names = tuple(stage.name for stage in stages_of(config))
    assert tuple(name for name in names if name not in FEATURE_NAMES) == STAGE_NAMES
    assert not without & {need for stage in stages_of(config) for need in stage.needs}


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({"method": "dealrec"}, ()),
        ({"method": "ccs"}, ("el2n",)),
        ({"method": "grand"}, ("grand",)),
        ({"method": "goracs"}, ("embedding",)),
        ({"method": "dealrec", "influence": "reference"}, ("reference_influence",)),
        ({"method": "random", "influence": "reference"}, ()),
    ],
)
def test_features_are_stages_between_the_scores_and_the_selection(
    tmp_path: Path, settings: dict[str, str], features: tuple[str, ...]
) -> None:
    config = configured(settings)
    graph = Graph(stages_of(config), config, Storage.at(tmp_path))
    names = [stage.name for stage in graph.stages]
    assert tuple(names[names.index("effort") + 1 : names.index("select")]) == features
    assert graph.stage("select").derived == graph.stage("report").derived == features
    for feature in features:
        assert {stage.name for stage in graph.after(feature)} >= {feature, "select", "finetune", "evaluate", "report"}
        assert feature in {stage.name for stage in graph.after("surrogate")}
        assert graph.stage(feature).command == "run"


def complete(run: Storage, name: str, content: str) -> None:
    Manifest(name, Fingerprint({}, {}, 1), content, [], {}, 1.0, 1).write(run.child(name))


def test_a_feature_lies_where_what_it_depends_on_puts_it(tmp_path: Path) -> None:
    """In the folder in which `select` kept it, when that stage computed it."""
    run = Storage.at(tmp_path)
    complete(run, "data", "d")
    complete(run, "surrogate", "s")
    grand, aimed = configured({"method": "grand"}), configured({"method": "influence", "influence": "reference"})
    inputs = {"version": 1, "ingest": "d", "surrogate": "s"}
    path = Graph(stages_of(grand), grand, run).path
    stage = Graph(stages_of(grand), grand, run).stage("grand")
    assert path(stage) == f"scores/surrogate/grand-{json_digest({**inputs, 'scope': None})[:12]}"
    scoped = grand.model_copy(update={"influence": grand.influence.model_copy(update={"scope": ("last_layer",)})})
    assert Graph(stages_of(scoped), scoped, run).path(stage) != path(stage)
    solve = aimed.influence.model_dump(exclude={"target", "max_nonfinite"})
    place = json_digest({**inputs, **solve, "reference": "valid", "users": "all"})[:12]
    graph = Graph(stages_of(aimed), aimed, run)
    assert graph.path(graph.stage("reference_influence")) == f"scores/surrogate/influence-{place}"
    before = path(stage)
    complete(run, "surrogate", "other")
    assert path(stage) != before


def test_every_setting_of_the_influence_is_a_key_of_the_aimed_one() -> None:
    (stage,) = (stage for stage in FEATURE_STAGES if stage.name == "reference_influence")
    keys = {f"influence.{name}" for name in InfluenceConfig.model_fields if name != "target"}
    assert set(stage.keys) == keys | {"select.reference", "select.reference_users"}


def test_a_coreset_does_not_wait_for_its_features_once_it_is_there(tmp_path: Path) -> None:
    """One that was selected before features were stages is taken as it is."""
    run, config = Storage.at(tmp_path), configured({"method": "el2n"})
    complete(run, "data", "d")
    complete(run, "surrogate", "s")
    graph = Graph(stages_of(config), config, run)
    select = graph.stage("select")
    with pytest.raises(UserError, match="Stage select needs el2n") as caught:
        graph.execute([select], EventLog(run))
    assert "dealrec el2n CONFIG" in caught.value.remedy
    fingerprint = graph.fingerprint(select)
    assert fingerprint is not None
    Manifest("select", fingerprint, "c", [], {}, 1.0, 1).write(graph.folder(select))
    assert graph.execute([select], EventLog(run)) == {"select": "complete"}


def test_another_surrogate_leaves_the_effort_of_all_samples(tmp_path: Path) -> None:
    config = configured({})
    again = Graph(stages_of(config), config, Storage.at(tmp_path)).after("surrogate")
    assert {stage.name for stage in again} == set(STAGE_NAMES) - {"ingest", "effort"}


@pytest.mark.parametrize("method", ["dealrec", "effort", "goracs"])
def test_candidates_of_effort_are_drawn_by_the_influence(method: str) -> None:
    stages = {stage.name: stage for stage in stages_of(configured({"method": method}, candidates=0.5))}
    assert stages["effort"].needs == ("ingest", "influence")
    assert "influence" in stages["select"].needs


def test_the_settings_of_influence_decide_a_run_that_computes_an_aimed_one_itself() -> None:
    keys = {}
    for influence in ("scores", "reference"):
        config = configured({"method": "influence", "influence": influence})
        keys[influence] = next(stage.keys for stage in stages_of(config) if stage.name == "select")
    assert "influence" in keys["reference"]
    assert "influence" not in keys["scores"]


def test_a_run_by_the_default_goes_through_all_stages() -> None:
    config = configured({})
    assert stage_names_of(config) == STAGE_NAMES


def test_a_tuning_under_way_may_change_what_its_checkpoints_leave_open() -> None:
    finetune = next(stage for stage in STAGES if stage.name == "finetune")
    assert {f"finetune.{name}" for name in HOW_ONLY} == set(finetune.elastic)
