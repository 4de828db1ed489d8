from pipeline.stages.catalogue import STAGES
from training.finetune_spec import HOW_ONLY

#: No keys of their own: they follow from where the model is and from the cluster.
DERIVED = {"model_copy", "placement"}


def test_a_tuning_under_way_may_change_what_its_checkpoints_leave_open() -> None:
    finetune = next(stage for stage in STAGES if stage.name == "finetune")
    assert {f"finetune.{name}" for name in HOW_ONLY} - set(finetune.elastic) == {f"finetune.{name}" for name in DERIVED}
    assert set(finetune.elastic) <= {f"finetune.{name}" for name in HOW_ONLY}
