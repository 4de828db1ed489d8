from __future__ import annotations

from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.tiny_llm import OTHER_FAMILIES, make_model, make_other
from training.llm.padding import require_padding


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_mask_padding_pass(architecture: str, dtype: torch.dtype) -> None:
    require_padding(make_model(architecture).to(dtype), architecture)


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_other_families_pass(family: str) -> None:
    require_padding(make_other(family), family)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_that_takes_no_notice_is_refused(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(architecture)
    forward = model.forward

    def deaf(input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, **others: Any) -> Any:
        everything = torch.ones_like(attention_mask)
        return forward(input_ids=input_ids, attention_mask=everything, **others)

    monkeypatch.setattr(model, "forward", deaf)
    with pytest.raises(UserError, match=r"llm\.model: the output of smol depends on the padding"):
        require_padding(model, "smol")
