"""Errors of scoring that are caused by a setting or by the data."""

from __future__ import annotations


class ScoringError(ValueError):
    """Base class of the errors below. The message says what to change."""


class ScopeError(ScoringError):
    """A parameter scope matches nothing, or contains something that the solver cannot handle."""


class SettingError(ScoringError):
    """A setting of the surrogate, its loss or a solver is out of range."""


class NonFiniteError(ScoringError):
    """A sum over many samples (gradient or curvature) contains NaN or infinity."""


class NotConvergedError(ScoringError):
    """An iterative solver stopped before it reached its tolerance.

    Attributes
    ----------
    residual : relative residual ‖(H + λI)h − v‖ / ‖v‖ when it stopped (infinite if it diverged).
    iterations : number of iterations.
    """

    def __init__(self, message: str, residual: float, iterations: int) -> None:
        super().__init__(message)
        self.residual = residual
        self.iterations = iterations

    def __reduce__(self) -> tuple[type[NotConvergedError], tuple[str, float, int]]:
        return type(self), (str(self), self.residual, self.iterations)


class TooFewSamplesError(ScoringError):
    """More samples are requested than exist, or none has a usable score."""


class NoUsableSampleError(TooFewSamplesError):
    """No sample has a usable score, whatever number is requested."""


class SelectorError(ScoringError):
    """A selector does not keep to what `scoring.selectors.base.Selector` asks of it."""


class NoAttentionError(ScoringError):
    """A language model has no attention, and so no query, key and value projections."""


class UnadaptedError(ScopeError):
    """A scope names linear maps that have no adapter.

    Attributes
    ----------
    maps : names of the maps in the model under the adapter.
    """

    def __init__(self, message: str, maps: tuple[str, ...]) -> None:
        super().__init__(message)
        self.maps = maps

    def __reduce__(self) -> tuple[type[UnadaptedError], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.maps)
