from pathlib import Path

import pytest

from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.config_file import parse_config
from pipeline.engine.graph import Graph
from pipeline.stages.stage_list import STAGE_NAMES, STAGES, stage_names_of, stages_of
from training.loops.finetune_spec import HOW_ONLY

#: No keys of their own: they follow from where the model is and from the cluster.
DERIVED = {"model_copy", "placement"}


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
    assert tuple(stage.name for stage in stages_of(config)) == STAGE_NAMES
    assert not without & {need for stage in stages_of(config) for need in stage.needs}


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
    assert {f"finetune.{name}" for name in HOW_ONLY} - set(finetune.elastic) == {f"finetune.{name}" for name in DERIVED}
    assert set(finetune.elastic) <= {f"finetune.{name}" for name in HOW_ONLY}
