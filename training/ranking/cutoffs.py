"""The cut-offs that rankings are measured at, and the one that decides."""

from __future__ import annotations

from collections.abc import Sequence

#: The cut-offs of an evaluation, unless its config names others.
CUTOFFS = (5, 10, 20, 50)
#: The cut-off of headlines, verdicts and gates.
HEADLINE_CUTOFF = 10


def headline_cutoff(cutoffs: Sequence[int]) -> int:
    """Return 10, or else the largest cut-off below it, or else the smallest.

    >>> headline_cutoff([5, 10, 20]), headline_cutoff([1, 5, 20]), headline_cutoff([20, 50])
    (10, 5, 20)
    """
    below = [cutoff for cutoff in cutoffs if cutoff <= HEADLINE_CUTOFF]
    return max(below) if below else min(cutoffs)
