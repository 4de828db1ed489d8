"""Define whose risk an audit measures and predicts: groups of users, so that many effects are seen at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.engine.sample_tables import SampleShard
from scoring.ids import draw_order

RISKS = ("train", "valid")


@dataclass(frozen=True, eq=False)
class Queries:
    """The mean losses of groups of users' samples.

    Attributes
    ----------
    samples : the N samples.
    group : the group of each sample, int64 [N], from 0 to count − 1.
    count : the number of groups; their numbers of users differ by at most one.
    """

    samples: SampleShard
    group: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, samples: SampleShard, user: npt.NDArray[np.int64], wanted: int, seed: int) -> Queries:
        """Divide users by hash into `wanted` groups, or into one group each if there are fewer users.

        Parameters
        ----------
        user : the number of each sample's user, int64 [N].
        """
        users, row = np.unique(user, return_inverse=True)
        place = np.empty(len(users), dtype=np.int64)
        place[np.argsort(draw_order(users, seed), kind="stable")] = np.arange(len(users))
        count = min(wanted, len(users))
        return cls(samples, (place % max(1, count))[row], count)

    def weights(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return float64 [count, B]: 1 / (samples in the group) for each of the samples `rows` of a group.

        Weighted sums of losses are then the groups' means.
        """
        sizes = np.bincount(self.group, minlength=self.count)
        weights = np.zeros((self.count, len(rows)))
        weights[self.group[rows], np.arange(len(rows))] = 1.0 / sizes[self.group[rows]]
        return weights

    def means(self, losses: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the mean loss of each group, float64 [count], from the losses of all samples [N]."""
        sums = np.bincount(self.group, weights=losses, minlength=self.count)
        means: npt.NDArray[np.float64] = sums / np.bincount(self.group, minlength=self.count)
        return means
