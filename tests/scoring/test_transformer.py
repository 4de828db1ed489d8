from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.transformer import Block


def block() -> Block:
    torch.manual_seed(0)
    return Block(6, 2, 0.5).double().eval()


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_one_position_equals_that_position_of_all(places: list[int]) -> None:
    layer = block()
    states = torch.randn(len(places), 5, 6, dtype=torch.float64)
    position = torch.tensor(places)
    expected = layer(states)[torch.arange(len(places)), position]
    torch.testing.assert_close(layer.at(states, position), expected, rtol=1e-12, atol=1e-12)


def test_later_positions_are_never_seen() -> None:
    layer = block()
    states = torch.randn(2, 5, 6, dtype=torch.float64)
    changed = states.clone()
    changed[:, 3:] = 100
    torch.testing.assert_close(layer(states)[:, :3], layer(changed)[:, :3], rtol=0, atol=1e-12)


def test_forward_derivatives_exist() -> None:
    layer = block()
    states = torch.randn(2, 5, 6, dtype=torch.float64)
    tangent = torch.randn_like(states)
    moved = torch.func.jvp(layer, (states,), (tangent,))[1]
    step = 1e-6
    with torch.no_grad():
        difference = (layer(states + step * tangent) - layer(states - step * tangent)) / (2 * step)
    torch.testing.assert_close(moved.detach(), difference, rtol=1e-6, atol=1e-7)
