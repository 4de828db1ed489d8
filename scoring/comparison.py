"""Differences between models trained with several seeds and evaluated on the same users, with intervals.

Seeds and users are resampled independently. This errs towards wide intervals when neither can be considered fixed
(Owen, "The pigeonhole bootstrap", Annals of Applied Statistics, 2007). Differences are taken within a seed and a user
before resampling, so whatever all models find hard or easy cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.datamodeling import Estimate

Values = npt.NDArray[np.float64]
RESAMPLES = 1000
#: Above this many users they are resampled in groups: 64 MiB of draws for 1,000 resamples.
MAX_GROUPS = 1 << 14


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each seed and each user is drawn in each of B resamples. Kept, so that all models get the same draws.

    Attributes
    ----------
    seeds : float32 [B, S], each row a multinomial draw of S.
    users : float32 [B, G], each row a multinomial draw of G, over all users or over groups of them. User u is in group
        u mod G; users are in hash order, so groups are alike.
    """

    seeds: npt.NDArray[np.float32]
    users: npt.NDArray[np.float32]

    @classmethod
    def draw(
        cls, seeds: int, users: int, resamples: int = RESAMPLES, seed: int = 0, max_groups: int = MAX_GROUPS
    ) -> Resamples:
        """Draw resamples of `seeds` training seeds and `users` users. They depend only on these numbers and `seed`.

        More than `max_groups` users are resampled in that many groups, so that memory does not grow with them.
        """
        generator = np.random.default_rng(seed)
        return cls(_counts(generator, resamples, seeds), _counts(generator, resamples, min(users, max_groups)))

    def means(self, values: Values) -> Values:
        """Return the means of values [S, U] over the drawn seeds and users, float64 [B].

        Users without a value (NaN, in all seeds) have no weight in any resample. A resample in which no user has a
        value is omitted.
        """
        known = np.atleast_1d(~np.isnan(values).any(axis=0))
        numbers = self._grouped(known[None].astype(np.float64))[0]
        # One product gives the sums of all seeds and the number of users, because reading the draws dominates the time.
        columns = np.vstack([self._grouped(np.where(known, values, 0.0)), numbers]).astype(np.float32)
        products = (self.users @ columns.T).astype(np.float64)
        sums, weights = products[:, :-1], products[:, -1]
        drawn = weights > 0
        means: Values = (sums * self.seeds).sum(axis=1)[drawn] / (len(values) * weights[drawn])
        return means

    def _grouped(self, values: Values) -> Values:
        """Return the sums over the users of each group, [S, G] from [S, U]."""
        groups = self.users.shape[1]
        if values.shape[1] <= groups:
            return values
        padded = np.pad(values, ((0, 0), (0, -values.shape[1] % groups)))
        return padded.reshape(len(values), -1, groups).sum(axis=1)


def _counts(generator: np.random.Generator, resamples: int, size: int) -> npt.NDArray[np.float32]:
    counts = np.empty((resamples, size), dtype=np.float32)
    for row in counts:
        row[:] = np.bincount(generator.integers(size, size=size), minlength=size)
    return counts


def estimate(values: Values, resamples: Resamples, level: float = 0.95) -> Estimate:
    """Return the mean of values [S, U] with its percentile bootstrap interval; all NaN if no user has a value."""
    known = ~np.isnan(values).any(axis=0)
    if not known.any():
        return Estimate(np.nan, np.nan, np.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(resamples.means(values), [tail, 1 - tail])
    return Estimate(float(values[:, known].mean()), float(low), float(high))


def paired_difference(values: Values, control: Values) -> Values:
    """Return each value minus the mean of the control's for the same seed and user, [S, U].

    Parameters
    ----------
    values : [S, U], one model for each training seed.
    control : [S, D, U], D draws of the control for each training seed; their mean has less noise than one draw.

    Raises
    ------
    ValueError : the seeds or users do not match.
    """
    if control.ndim != 3 or values.shape != (control.shape[0], control.shape[2]):
        raise ValueError(f"values {values.shape} and control {control.shape} have different seeds or users")
    difference: Values = values - control.mean(axis=1)
    return difference
