"""A small, deterministic logistic regression by Newton's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_STEPS = 100
_TOLERANCE = 1e-10
#: Decimals kept of the solution, since the last bits of its sums depend on the number of threads.
_DECIMALS = 8


@dataclass(frozen=True)
class Logistic:
    """A fitted model: ln odds = bias + Σ weights · (x − mean) / scale.

    Attributes
    ----------
    mean, scale, weights : float64 [F].
    bias : the intercept.
    """

    mean: Values
    scale: Values
    weights: Values
    bias: float

    @classmethod
    def fit(cls, features: Values, positive: npt.NDArray[np.bool_], ridge: float) -> Logistic:
        """Fit the model with both classes weighted equally, so that the odds are the ratio of their densities.

        Parameters
        ----------
        features : [N, F], standardised here; a constant feature gets weight 0.
        positive : bool [N], with both classes present.
        ridge : coefficient of ½ ‖weights‖², added to the mean loss; the bias is not penalised.
        """
        share = np.where(positive, 0.5 / np.count_nonzero(positive), 0.5 / np.count_nonzero(~positive))
        mean = (share[:, None] * features).sum(0)
        spread = np.sqrt((share[:, None] * (features - mean) ** 2).sum(0))
        scale = np.where(spread > 0, spread, 1.0)
        design = np.column_stack([(features - mean) / scale, np.ones(len(features))])
        penalty = np.append(np.full(features.shape[1], ridge), 0.0)
        signs = np.where(positive, 1.0, -1.0)

        def risk(solution: Values) -> float:
            losses = np.logaddexp(0.0, -signs * (design @ solution))
            return float(share @ losses + 0.5 * penalty @ solution**2)

        solution = np.zeros(design.shape[1])
        for _ in range(_STEPS):
            probability = 0.5 + 0.5 * np.tanh(0.5 * (design @ solution))
            slope = design.T @ (share * (probability - positive)) + penalty * solution
            curvature = (design.T * (share * probability * (1 - probability))) @ design + np.diag(penalty)
            # A tiny damping keeps the step finite if the classes are perfectly separable.
            step = np.linalg.solve(curvature + 1e-12 * np.eye(len(curvature)), slope)
            while np.abs(step).max() > _TOLERANCE and risk(solution - step) > risk(solution):
                step = step / 2
            solution = solution - step
            if np.abs(step).max() <= _TOLERANCE:
                break
        solution = np.round(solution, _DECIMALS)
        return cls(mean, scale, solution[:-1], float(solution[-1]))

    def log_odds(self, features: Values) -> Values:
        """Return the log odds, [N] from [N, F]. Elementwise, so a row's value does not depend on the other rows."""
        total = np.full(len(features), self.bias)
        for column, (mean, scale, weight) in enumerate(zip(self.mean, self.scale, self.weights, strict=True)):
            total = total + weight * ((features[:, column] - mean) / scale)
        return total
