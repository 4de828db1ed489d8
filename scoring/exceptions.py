"""What can go wrong in scoring through the fault of a setting or of the data."""

from __future__ import annotations


class ScoringError(ValueError):
    """Base of the errors below; the message says what to change."""


class ScopeError(ScoringError):
    """A parameter scope matches nothing, or holds what the solver cannot treat."""


class SettingError(ScoringError):
    """A setting of the surrogate, of its loss or of a solver is out of range."""


class NonFiniteError(ScoringError):
    """A sum over many samples (gradient or curvature) holds NaN or infinity."""


class NotConvergedError(ScoringError):
    """An iterative solver stopped before it reached its tolerance.

    Attributes
    ----------
    residual : relative residual ‖(H + λI)h − v‖ / ‖v‖ where it stopped (infinite when it diverged).
    iterations : iterations spent.
    """

    def __init__(self, message: str, residual: float, iterations: int) -> None:
        super().__init__(message)
        self.residual = residual
        self.iterations = iterations

    def __reduce__(self) -> tuple[type[NotConvergedError], tuple[str, float, int]]:
        return type(self), (str(self), self.residual, self.iterations)


class TooFewSamplesError(ScoringError):
    """More samples are asked for than there are, or none has a usable score."""


class NoUsableSampleError(TooFewSamplesError):
    """None of the samples has a usable score, whatever number is asked for."""


class SelectorError(ScoringError):
    """A selector does not keep to what `scoring.selectors.base.Selector` asks of it."""


class NoAttentionError(ScoringError):
    """A language model without attention, which has no query, key and value projections."""


class UnadaptedError(ScopeError):
    """A scope names linear maps that carry no adapter.

    Attributes
    ----------
    maps : their names in the model under the adapter.
    """

    def __init__(self, message: str, maps: tuple[str, ...]) -> None:
        super().__init__(message)
        self.maps = maps

    def __reduce__(self) -> tuple[type[UnadaptedError], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.maps)
