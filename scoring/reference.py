"""The samples of the reference period that an aimed selector targets, as a stream of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.exceptions import SettingError
from scoring.ragged import Ragged


@dataclass(frozen=True)
class ReferenceShard:
    """The R samples of one shard, on H histories: the validation targets of a user all follow the same history.

    Attributes
    ----------
    sample_id : int64 [R], unique across shards.
    histories : H rows of item indices, oldest first.
    row : int64 [R], index of each sample's history.
    target : int32 [R].
    user : int64 [R], key of each sample's user (`scoring.ids.user_keys`).
    """

    sample_id: npt.NDArray[np.int64]
    histories: Ragged
    row: npt.NDArray[np.int64]
    target: npt.NDArray[np.int32]
    user: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample_id)

    def history(self) -> Ragged:
        """Return the history of each sample, as R rows."""
        return self.histories.take(self.row)


@dataclass(frozen=True)
class Reference:
    """The samples that an aimed selector targets. Selectors make several passes and hold one shard at a time.

    Attributes
    ----------
    shards : starts a pass. Every pass gives the same samples, in any order or grouping of whole users.
    samples : total number of samples.
    embed : float32 [M, d] embeddings of M histories and targets, as in `ScoreShard`.
    since : if not None, the reference consists of the train samples at or after this time.
    """

    shards: Callable[[], Iterator[ReferenceShard]]
    samples: int
    embed: Callable[[Ragged, npt.NDArray[np.int32]], npt.NDArray[np.float32]] | None = None
    since: float | None = None

    def inside(self, timestamp: npt.NDArray[np.float64] | None, count: int) -> npt.NDArray[np.bool_]:
        """Return which of `count` train samples at these times belong to the reference."""
        if self.since is None:
            return np.zeros(count, dtype=np.bool_)
        assert timestamp is not None
        return timestamp >= self.since


def required_reference(reference: Reference | None, method: str) -> Reference:
    """Return the reference that an aimed selector needs. Raises `SettingError` if there is none or it is empty."""
    if reference is None or not reference.samples:
        raise SettingError(f"{method} needs samples in the reference period, but there are none")
    return reference
