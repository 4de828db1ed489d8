from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scoring.batching import SequenceBatch, collate, collate_windows, windows
from scoring.exceptions import SettingError
from scoring.ragged import Ragged
from scoring.sasrec import LOSSES, SASRec, SASRecConfig
from tests.scoring.cases import histories, sasrec

TIGHT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("loss", LOSSES)
def test_sample_losses_add_up_to_the_sequence_loss(loss: str) -> None:
    """Scoring each position of a window as a sample of its own gives the window's training loss."""
    model = sasrec(loss).eval()
    sequence = [3, 1, 7, 7, 2, 9]
    total, count = model.sequence_loss(SequenceBatch(torch.tensor([sequence]), torch.tensor([2])))
    rows = Ragged.from_rows([sequence[:place] for place in range(3, 6)])
    batch = collate(rows, sequence[3:], [0, 1, 2])
    assert count == 3
    torch.testing.assert_close(total, model.per_sample_loss(batch).sum(), **TIGHT)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_that_of_the_last_target(loss: str) -> None:
    """A user with two train items has a sample, with a loss and a gradient."""
    model = sasrec(loss).eval()
    batch = collate(Ragged.from_rows([[4]]), [6], [0])
    sample = model.per_sample_loss(batch).sum()
    gradients = torch.autograd.grad(sample, list(model.blocks.parameters()), materialize_grads=True)
    assert sum(float(value.abs().sum()) for value in gradients) > 1e-3
    other = model.per_sample_loss(batch._replace(target=torch.tensor([5])))
    assert abs(float((sample - other).detach())) > 1e-3


def test_the_last_window_of_a_long_user_trains_the_sample_that_is_scored() -> None:
    model = sasrec().eval()
    sequence = np.random.default_rng(0).integers(1, 12, size=23)
    cut, _ = windows(Ragged.from_rows([sequence]), 7)
    last = collate_windows(cut, [6] * len(cut), [len(cut) - 1])
    batch = collate(Ragged.from_rows([sequence[:-1]]).tail(7), sequence[-1:], [0])
    torch.testing.assert_close(model.sequence_loss(last)[0], model.per_sample_loss(batch).sum(), **TIGHT)


def test_padding_and_company_change_nothing() -> None:
    model = sasrec().eval()
    rows, target = histories(8)
    together = collate(rows, target, np.arange(8))
    alone = torch.cat([model.encode(*collate(rows, target, [row])[:2]) for row in range(8)])
    torch.testing.assert_close(model.encode(together.history, together.lengths), alone, **TIGHT)


def test_logits_rank_items_from_one() -> None:
    model = sasrec().eval()
    rows, target = histories(3)
    batch = collate(rows, target, [0, 1, 2])
    logits = model.logits(model.encode(batch.history, batch.lengths))
    assert logits.shape == (3, model.item_count)
    chosen = logits.log_softmax(-1).gather(1, batch.target[:, None] - 1).squeeze(1)
    torch.testing.assert_close(model.per_sample_loss(batch), -chosen, **TIGHT)


def test_sampled_softmax_estimates_the_full_one() -> None:
    """The mean of Σ exp over many negative sets equals the catalogue's own (importance weights are unbiased)."""
    full = sasrec("softmax", items=40).eval()
    sampled = sasrec("sampled", items=40, negatives=60_000).eval()
    sampled.load_state_dict(full.state_dict() | {k: v for k, v in sampled.state_dict().items() if "." not in k})
    rows, target = histories(5, items=40)
    batch = collate(rows, target, np.arange(5))
    torch.testing.assert_close(sampled.per_sample_loss(batch), full.per_sample_loss(batch), rtol=0, atol=3e-2)


@pytest.mark.parametrize("loss", ["sampled", "bce"])
def test_negatives_are_frozen_for_scoring_and_redrawn_for_training(loss: str) -> None:
    model = sasrec(loss).eval()
    rows, target = histories(6)
    batch = collate(rows, target, np.arange(6))
    torch.testing.assert_close(model.per_sample_loss(batch), model.per_sample_loss(batch), rtol=0, atol=0)
    sequence = SequenceBatch(torch.tensor([[1, 2, 3, 4]]), torch.tensor([0]))
    generator = torch.Generator().manual_seed(5)
    first, second = (model.sequence_loss(sequence, generator)[0].item() for _ in range(2))
    again = model.sequence_loss(sequence, torch.Generator().manual_seed(5))[0].item()
    assert first == again
    assert first != second


def test_scoring_negatives_travel_with_the_weights() -> None:
    model = sasrec("sampled", seed=3)
    copy = SASRec(SASRecConfig(**{**model.config_dict(), "seed": 4})).double()
    copy.load_state_dict(model.state_dict())
    rows, target = histories(4)
    batch = collate(rows, target, np.arange(4))
    torch.testing.assert_close(copy.eval().per_sample_loss(batch), model.eval().per_sample_loss(batch))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = SASRec(SASRecConfig(item_count=5, hidden=4)).state_dict()
    torch.manual_seed(9)
    second = SASRec(SASRecConfig(item_count=5, hidden=4)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["item_embedding.weight"],
        SASRec(SASRecConfig(item_count=5, hidden=4, seed=1)).state_dict()["item_embedding.weight"],
    )


def test_dropout_is_for_training() -> None:
    model = sasrec()
    batch = SequenceBatch(torch.tensor([[1, 2, 3, 4]]), torch.tensor([0]))
    torch.manual_seed(0)
    model.train()
    assert model(batch)[0].item() != model(batch)[0].item()
    model.eval()
    assert model(batch)[0].item() == model(batch)[0].item()


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns_a_rule(loss: str) -> None:
    """Item k is always followed by item k + 1."""
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(item_count=12, hidden=16, heads=2, loss=loss, dropout=0.0, negatives=8))
    rows = [[(start + step) % 12 + 1 for step in range(5)] for start in range(12)]
    batch = SequenceBatch(torch.tensor(rows), torch.zeros(12, dtype=torch.long))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        loss_sum, count = model(batch, generator)
        optimizer.zero_grad()
        (loss_sum / count).backward()
        optimizer.step()
    scored = collate(Ragged.from_rows([row[:4] for row in rows]), [row[4] for row in rows], np.arange(12))
    best = model.eval().logits(model.encode(scored.history, scored.lengths)).argmax(-1) + 1
    assert (best == scored.target).float().mean() >= 0.9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hidden": 5, "heads": 2}, "multiple of heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"loss": "hinge"}, "softmax, sampled, bce"),
        ({"blocks": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SASRecConfig(item_count=3, **setting)  # type: ignore[arg-type]


def test_a_history_too_long_is_refused() -> None:
    batch = collate(Ragged.from_rows([[1] * 8]), [1], [0])
    with pytest.raises(SettingError, match="exceeds the surrogate's 7"):
        sasrec().per_sample_loss(batch)
