from __future__ import annotations

from itertools import repeat

import pytest
import torch

from scoring.exceptions import NotConvergedError, SettingError
from scoring.solvers.lissa import solve_lissa
from tests.scoring.solvers.systems import solution, system


@pytest.mark.parametrize(("damp", "scale"), [(0.01, 25.0), (0.1, 10.0)])
def test_it_converges_to_its_fixed_point(damp: float, scale: float) -> None:
    """scale · (H + damp·scale·I)⁻¹ v: with 0.01 and 25, 25 (H + 0.25 I)⁻¹ v."""
    matrix, v = system()
    found = solve_lissa(repeat(lambda x: matrix @ x, 3000), v, damp, scale, whole=lambda x: matrix @ x)
    expected = scale * solution(matrix, v, damp * scale)
    torch.testing.assert_close(found.direction, expected, rtol=1e-8, atol=1e-8)
    assert found.iterations == 3000
    assert found.residual is not None
    assert found.residual < 1e-9


def test_single_samples_approach_it_on_average() -> None:
    torch.manual_seed(0)
    features = torch.randn(50, 3, dtype=torch.float64)
    matrix, v = features.T @ features / 50, torch.ones(3, dtype=torch.float64)
    drawn = features[torch.randint(50, (5000,))]
    steps = ((lambda x, row=row: row * (row @ x)) for row in drawn)
    found = solve_lissa(steps, v, 0.01, 100.0, whole=lambda x: matrix @ x)
    assert found.residual is not None
    assert 1e-4 < found.residual < 0.5


def test_without_the_whole_no_residual_is_claimed() -> None:
    matrix, v = system()
    assert solve_lissa([lambda x: matrix @ x], v).residual is None


def test_divergence_is_an_error() -> None:
    matrix, v = system()
    with pytest.raises(NotConvergedError, match="diverged") as caught:
        solve_lissa(repeat(lambda x: 100 * (matrix @ x), 5000), v, 0.01, 1.0)
    assert caught.value.iterations < 100


@pytest.mark.parametrize(("damp", "scale"), [(-0.1, 25.0), (1.5, 25.0), (0.1, 0.0)])
def test_bad_settings_are_refused(damp: float, scale: float) -> None:
    with pytest.raises(SettingError):
        solve_lissa([], torch.ones(2), damp, scale)
