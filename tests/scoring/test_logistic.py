from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from scoring.logistic import Logistic


def problem(positives: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    negative = generator.normal(size=(3000, 2))
    positive = generator.normal(loc=(1.0, 0.0), size=(positives, 2))
    return np.concatenate([negative, positive]), np.arange(3000 + positives) >= 3000


def test_is_the_minimum_of_the_balanced_risk():
    features, labels = problem()
    model = Logistic.fit(features, labels, ridge=0.01)
    weight = np.where(labels, 0.5 / 400, 0.5 / 3000)
    scaled = (features - model.mean) / model.scale

    def risk(solution):
        margins = np.where(labels, 1, -1) * (scaled @ solution[:2] + solution[2])
        return weight @ np.logaddexp(0, -margins) + 0.005 * solution[:2] @ solution[:2]

    found = minimize(risk, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose([*model.weights, model.bias], found, atol=1e-4)


def test_the_odds_are_the_ratio_of_densities():
    features, labels = problem()
    points = np.array([[-1.0, 0.0], [0.5, 1.0], [2.0, -1.0]])
    # ln of N(x; 1, 1) over N(x; 0, 1) is x − ½.
    odds = Logistic.fit(features, labels, ridge=1e-6).log_odds(points)
    np.testing.assert_allclose(odds, points[:, 0] - 0.5, atol=0.25)


def test_classes_that_are_told_apart_stay_finite():
    features = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    model = Logistic.fit(features, np.array([False, False, True]), ridge=1e-3)
    assert np.isfinite(model.weights).all()
    assert model.weights[1] == 0
    assert model.log_odds(features)[2] > 2
