from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoring.batching import collate_windows
from scoring.ragged import Ragged
from training.loops.surrogate_config import SurrogateConfig
from training.loops.surrogate_data import windows_of
from training.loops.surrogate_retrain import retrain_surrogate
from training.loops.surrogate_spec import SurrogateSpec

NETWORK = {"hidden": 8, "dropout": 0.1, "negatives": 4}


def sequences(seed: int = 0, users: int = 12) -> Ragged:
    rng = np.random.default_rng(seed)
    return Ragged.from_rows([rng.integers(1, 10, size=rng.integers(1, 14)) for _ in range(users)])


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_windows_lose_the_removed_targets_and_nothing_else(seed: int, max_history: int) -> None:
    log = sequences(seed)
    removed = np.random.default_rng(seed).random(len(log.values)) < 0.4
    first_of_user = np.zeros(len(log.values), dtype=bool)
    first_of_user[log.offsets[:-1]] = True
    kept = windows_of(log, max_history, removed)
    assert kept.targets.sum() == np.count_nonzero(~removed & ~first_of_user)
    assert (kept.targets > 0).all()
    if len(kept.items):
        batch = collate_windows(kept.items, kept.first, np.arange(len(kept.items)), removed=kept.removed)
        assert batch.counted.sum(1).tolist() == kept.targets.tolist()
        whole = windows_of(log, max_history)
        texts = {tuple(whole.items.row(row)) for row in range(len(whole.items))}
        assert {tuple(kept.items.row(row)) for row in range(len(kept.items))} <= texts


@pytest.mark.parametrize("loss", ["softmax", "sampled", "bce"])
def test_training_without_a_target_ignores_what_it_was(loss: str) -> None:
    """The last item of a user is in no history; once removed as a target, another one in its place is the same."""
    log = sequences()
    settings = SurrogateConfig.model_validate({**NETWORK, "loss": loss, "batch_tokens": 32, "warmup_steps": 2})
    spec = SurrogateSpec(settings, sample_history=4)
    counts = np.ones(9, dtype=np.int64)
    user = int(np.flatnonzero(log.lengths > 2)[0])
    place = int(log.offsets[user + 1]) - 1
    changed = log.values.copy()
    changed[place] = changed[place] % 9 + 1
    removed = np.arange(len(changed)) == place

    def weights(values: np.ndarray, marks: np.ndarray | None) -> torch.Tensor:
        windows = windows_of(Ragged(values, log.offsets), spec.max_history, marks)
        model = retrain_surrogate(spec, windows, counts, 2, torch.device("cpu"))
        assert not model.training
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(weights(log.values, removed), weights(changed, removed))
    assert not torch.equal(weights(log.values, None), weights(changed, None))
    assert not torch.equal(weights(log.values, None), weights(log.values, removed))
