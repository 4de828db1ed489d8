"""Stamps name the folders of checkpoints: a training that an earlier version began goes on only if they stay."""

from __future__ import annotations

from training.llm.llm_config import LlmConfig
from training.loops.finetune_config import FinetuneConfig
from training.loops.finetune_spec import FinetuneSpec
from training.loops.surrogate_config import SurrogateConfig
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.worker_placement import Placement

TUNING = FinetuneConfig(targets="all-linear", lr=3e-4, workers=2, zero=3)
LLM = LlmConfig(model="a/b", template={"name": "x", "instruction": "y"})


def test_stamps_are_those_of_earlier_runs() -> None:
    assert FinetuneSpec(LlmConfig()).stamp("in") == "79c6af08bc7e56859b6c5b8ab0b8636d"
    assert FinetuneSpec(LLM, TUNING).stamp("in") == "ec899a438f30f3c41fb46ed12b4aee08"
    assert SurrogateSpec().stamp([("a", 1)]) == "d8b2f5bb3488619d05e9962183c10c0c"
    own = SurrogateConfig(settings={"extra": 3}, epochs=4, model="m:b")
    assert SurrogateSpec(own, sample_history=9, mask_seen=False).stamp([("a", 1)]) == "4aedaddbd125a8936cd128ef8b6f0964"


def test_a_stamp_holds_what_decides_the_result_alone() -> None:
    spec = FinetuneSpec(LLM, TUNING)
    how = {
        "workers": 4,
        "zero": 2,
        "offload": "optimizer",
        "micro_batch_tokens": 9,
        "checkpoint_steps": 3,
        "cache_gib": 1.0,
    }
    elsewhere = FinetuneSpec(LLM, TUNING.model_copy(update={**how, "cache_gib": 1.0}), "copy", Placement(threads=4))
    assert elsewhere.stamp() == spec.stamp()
    for name, value in {
        "lr": 1e-3,
        "epochs": 3,
        "lora_r": 4,
        "layers": 2,
        "lora_dropout": 0.0,
        "seed": 1,
        "clip": 0.0,
    }.items():
        assert FinetuneSpec(LLM, TUNING.model_copy(update={name: value})).stamp() != spec.stamp(), name
    surrogate = SurrogateSpec()
    wider = SurrogateSpec(SurrogateConfig(workers=3), placement=Placement(threads=2))
    assert wider.stamp([]) == surrogate.stamp([])
    for name, value in {"lr": 1e-2, "hidden": 8, "seed": 1, "patience": 0, "valid_users": 3}.items():
        assert SurrogateSpec(SurrogateConfig().model_copy(update={name: value})).stamp([]) != surrogate.stamp([]), name
