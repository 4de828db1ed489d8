from __future__ import annotations

from typing import Any

import pytest

from cluster.errors import UserError
from training.llm.llm_spec import LoraSpec
from training.loops.finetune_config import FinetuneConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 1}, "finetune.warmup must be below 1, got 1"),
        ({"zero": 0, "offload": "optimizer"}, "must be none if finetune.zero is 0, got optimizer"),
        ({"zero": 2, "offload": "all"}, "must be none or optimizer if finetune.zero is 2, got all"),
        ({"workers": 3, "global_batch": 2}, r"must be at most finetune.global_batch \(2\), got 3"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    # Reading them succeeds: a run that stops before fine-tuning may ignore them.
    config = FinetuneConfig.model_validate(settings)
    with pytest.raises(UserError, match=message) as caught:
        config.check()
    assert caught.value.remedy


@pytest.mark.parametrize(
    "settings", [{}, {"zero": 3, "offload": "all"}, {"zero": 1, "offload": "optimizer"}, {"warmup": 0, "zero": 0}]
)
def test_settings_that_go_together_pass(settings: dict[str, Any]) -> None:
    FinetuneConfig.model_validate(settings).check()


def test_the_adapter_is_that_of_the_settings() -> None:
    config = FinetuneConfig(lora_r=4, lora_alpha=2, targets="all-linear", seed=3)
    assert config.adapter() == LoraSpec(4, 2, ("all-linear",), 0.05, 3)
    assert config.adapter(dropout=0.0).dropout == 0
    assert FinetuneConfig(targets=("a", "b")).adapter().targets == ("a", "b")
