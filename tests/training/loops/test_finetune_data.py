from __future__ import annotations

import pytest
import torch

from tests.tiny_llm import make_model
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate
from training.loops.finetune_data import sample_losses

PROMPTS = [EncodedPrompt([5, 6, 7, 8, 9], 3), EncodedPrompt([10, 11, 12], 1), EncodedPrompt([20] * 9, 8)]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_each_row_has_the_mean_loss_of_its_own_response(architecture: str) -> None:
    model = make_model(architecture)
    with torch.no_grad():
        batched = sample_losses(model, collate(PROMPTS, 0))
        for row, prompt in enumerate(PROMPTS):
            ids = torch.tensor([prompt.input_ids])
            labels = ids.clone()
            labels[:, : prompt.response_start] = -100
            alone = model(input_ids=ids, labels=labels).loss
            assert batched[row].item() == pytest.approx(alone.item(), rel=1e-4)
