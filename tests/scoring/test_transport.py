from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from scoring.transport import Transport, distances, log_sum, solve_transport

GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(30, 3))
AIM = (GENERATOR.normal(size=(9, 3)) + 1).astype(np.float32)
GAIN = GENERATOR.uniform(0, 0.2, size=30)


def solve(bound: float, epsilon: float) -> Transport:
    return solve_transport(POINTS, GAIN, AIM, bound, epsilon)


def masses(plan: Transport) -> np.ndarray:
    return np.exp(plan.log_mass(POINTS.astype(np.float32), GAIN) + plan.log_bound)


def test_serves_the_reference_within_the_bound():
    plan = solve(bound=0.1, epsilon=0.1)
    assert plan.residual <= 1e-3
    assert masses(plan).sum() == pytest.approx(1.0, abs=2e-3)
    assert masses(plan).max() <= 0.1 + 1e-6


def test_tends_to_the_linear_program():
    """With less entropy, the masses come closer to those of the exact plan."""
    cost = distances(POINTS, AIM.astype(np.float64))
    scaled = cost / cost.mean() - GAIN[:, None]
    columns = np.kron(np.ones(30), np.eye(9))
    rows = np.kron(np.eye(30), np.ones(9))
    exact = linprog(scaled.ravel(), A_ub=rows, b_ub=np.full(30, 0.1), A_eq=columns, b_eq=np.full(9, 1 / 9))
    expected = exact.x.reshape(30, 9).sum(1)
    plans = [solve(0.1, epsilon) for epsilon in (0.01, 0.1, 1.0)]
    errors = [np.abs(masses(plan) - expected).sum() for plan in plans]
    assert errors[0] < 0.15
    assert errors == sorted(errors)
    assert plans[0].cost_scale == pytest.approx(cost.mean())


def test_a_bound_of_one_binds_nobody():
    plan = solve(bound=1.0, epsilon=0.1)
    assert masses(plan).max() < 1.0


def test_rows_do_not_depend_on_their_neighbours():
    plan = solve(bound=0.1, epsilon=0.1)
    many = GENERATOR.normal(size=(700, 3)).astype(np.float32)
    gain = GENERATOR.uniform(size=700)
    whole = plan.log_mass(many, gain)
    parts = [plan.log_mass(many[start : start + 130], gain[start : start + 130]) for start in range(0, 700, 130)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(plan.log_mass(many[:0], gain[:0])) == 0


def test_sums_of_exponents_do_not_overflow():
    np.testing.assert_allclose(log_sum(np.array([[1000.0, 1000.0], [-2000.0, -3000.0]])), [1000 + np.log(2), -2000])
