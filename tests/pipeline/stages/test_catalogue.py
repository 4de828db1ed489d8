import pytest

from pipeline.config import SelectConfig
from pipeline.stages.catalogue import STAGE_NAMES, STAGES, stage_names_of, stages_of
from training.finetune_spec import HOW_ONLY

#: No keys of their own: they follow from where the model is and from the cluster.
DERIVED = {"model_copy", "placement"}


@pytest.mark.parametrize(
    ("settings", "without"),
    [
        ({"method": "dealrec"}, set()),
        ({"method": "goracs"}, set()),
        ({"method": "influence"}, {"effort"}),
        ({"method": "influence", "influence": "reference"}, {"influence", "effort"}),
        ({"method": "reference_popularity"}, {"influence", "effort"}),
    ],
)
def test_a_run_scores_only_what_its_selector_reads(settings: dict[str, str], without: set[str]) -> None:
    section = SelectConfig.model_validate(settings)
    assert set(STAGE_NAMES) - set(stage_names_of(section)) == without
    # One that was asked for by name is there all the same.
    assert tuple(stage.name for stage in stages_of(section)) == STAGE_NAMES
    assert not without & {need for stage in stages_of(section) if stage.name != "effort" for need in stage.needs}


def test_the_settings_of_influence_decide_a_run_that_computes_an_aimed_one_itself() -> None:
    keys = {}
    for influence in ("scores", "reference"):
        section = SelectConfig.model_validate({"method": "influence", "influence": influence})
        keys[influence] = next(stage.keys for stage in stages_of(section) if stage.name == "select")
    assert "influence" in keys["reference"]
    assert "influence" not in keys["scores"]


def test_the_stages_of_the_default_are_all() -> None:
    assert stages_of(SelectConfig()) == STAGES


def test_a_tuning_under_way_may_change_what_its_checkpoints_leave_open() -> None:
    finetune = next(stage for stage in STAGES if stage.name == "finetune")
    assert {f"finetune.{name}" for name in HOW_ONLY} - set(finetune.elastic) == {f"finetune.{name}" for name in DERIVED}
    assert set(finetune.elastic) <= {f"finetune.{name}" for name in HOW_ONLY}
