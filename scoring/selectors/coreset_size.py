"""The one rule of a coreset's size: below 1 it is a share of all samples, from 1 on a whole count."""

from __future__ import annotations

from fractions import Fraction

from scoring.exceptions import SettingError, TooFewSamplesError


def checked_size(size: float) -> float:
    """Return the size. Raises SettingError if it is neither a share nor a whole count."""
    if not 0 < size < float("inf") or (size >= 1 and size != int(size)):
        raise SettingError(f"size must be a share below 1 or a whole number of samples, got {size:g}")
    return size


def share_of(share: float, count: int) -> int:
    """Return ⌊share · count⌋ with the share as it was written: 0.29 of 100 is 29, not 28."""
    return int(Fraction(str(share)) * count)


def asked_size(size: float, samples: int) -> int:
    """Return the number of samples that a size asks of a log of `samples`; a share gives at least one.

    Raises
    ------
    TooFewSamplesError : more are asked for than there are.
    """
    if size < 1:
        return max(1, share_of(size, samples))
    if size > samples:
        raise TooFewSamplesError(f"{int(size):,} samples are asked for, but there are only {samples:,}")
    return int(size)


def bounded_size(size: float, samples: int) -> int:
    """Return `asked_size`, or all samples where more are asked for."""
    return samples if size >= 1 and size > samples else min(samples, asked_size(size, samples))
