from __future__ import annotations

import pytest
import torch

from scoring.exceptions import SettingError
from scoring.negatives import draw_negatives, proposal


def test_frequencies_follow_the_proposal() -> None:
    probability = proposal(4, [0, 1, 3, 0])
    assert probability.tolist() == pytest.approx([0.125, 0.25, 0.5, 0.125])
    drawn = draw_negatives(probability, 200_000, torch.Generator().manual_seed(0))
    assert drawn.min() >= 1
    assert drawn.max() <= 4
    shares = torch.bincount(drawn, minlength=5)[1:] / len(drawn)
    torch.testing.assert_close(shares.double(), probability, atol=5e-3, rtol=0)


def test_draws_are_a_function_of_the_generator() -> None:
    probability = proposal(50, None)
    first, again, other = (draw_negatives(probability, 20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_counts_must_cover_the_catalogue() -> None:
    with pytest.raises(SettingError, match="all 3 items"):
        proposal(3, [1, 2])
