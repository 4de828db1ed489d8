from __future__ import annotations

from copy import copy

from scoring.exceptions import NotConvergedError, ScoringError


def test_an_error_of_a_worker_arrives_whole() -> None:
    """Copying uses the same reduction as sending exceptions between processes."""
    error = copy(NotConvergedError("stopped", 0.5, 7))
    assert isinstance(error, ScoringError)
    assert isinstance(error, ValueError)
    assert (str(error), error.residual, error.iterations) == ("stopped", 0.5, 7)
