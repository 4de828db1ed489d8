"""The samples of the period that an aimed selector looks at, as a stream of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.exceptions import SettingError
from scoring.ragged import Ragged


@dataclass(frozen=True)
class ReferenceShard:
    """Samples of one shard, R of them, on H histories: a user's validation targets all follow the same one.

    Attributes
    ----------
    sample_id : int64 [R], unique over all shards.
    histories : H rows of item indices, oldest first.
    row : int64 [R], the history of each sample.
    target : int32 [R].
    user : int64 [R], the key of each sample's user (`scoring.ids.user_keys`).
    """

    sample_id: npt.NDArray[np.int64]
    histories: Ragged
    row: npt.NDArray[np.int64]
    target: npt.NDArray[np.int32]
    user: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample_id)

    def history(self) -> Ragged:
        """R rows, one a sample."""
        return self.histories.take(self.row)


@dataclass(frozen=True)
class Reference:
    """What an aimed selector is aimed at. Selectors make several passes, and hold one shard at a time.

    Attributes
    ----------
    shards : begins a pass; each gives the same samples, in whatever order or grouping of whole users.
    samples : how many there are in all.
    embed : float32 [M, d] embeddings of M histories and targets, as in `ScoreShard`.
    since : the reference is the train samples of this time and later; None when it is no part of train.
    """

    shards: Callable[[], Iterator[ReferenceShard]]
    samples: int
    embed: Callable[[Ragged, npt.NDArray[np.int32]], npt.NDArray[np.float32]] | None = None
    since: float | None = None

    def inside(self, timestamp: npt.NDArray[np.float64] | None, count: int) -> npt.NDArray[np.bool_]:
        """Which train samples [count] of those times are of the reference themselves."""
        if self.since is None:
            return np.zeros(count, dtype=np.bool_)
        assert timestamp is not None
        return timestamp >= self.since


def required_reference(reference: Reference | None, method: str) -> Reference:
    """The reference of a selector that is aimed at one. Raises SettingError when there is none or it is empty."""
    if reference is None or not reference.samples:
        raise SettingError(f"{method} needs the samples of a reference period, and there are none")
    return reference
