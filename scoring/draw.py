"""Random draws from a stream without replacement: the lowest hash keys of each stratum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Rows:
    """Scored samples and what the draw needs of them: columns of one length N.

    Attributes
    ----------
    key : uint64, from `scoring.ids.draw_order`.
    stratum : int32.
    sample_id : int64.
    influence, effort, score : float32.
    tie : uint64, which orders rows of equal keys; None leaves that to the sample id. It is there for all rows of a draw
        or for none.
    """

    key: npt.NDArray[np.uint64]
    stratum: npt.NDArray[np.int32]
    sample_id: npt.NDArray[np.int64]
    influence: npt.NDArray[np.float32]
    effort: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    tie: npt.NDArray[np.uint64] | None = None

    @classmethod
    def empty(cls) -> Rows:
        none = np.empty(0, dtype=np.float32)
        return cls(np.empty(0, np.uint64), np.empty(0, np.int32), np.empty(0, np.int64), none, none, none)

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Rows:
        """Select rows by a mask or by indices."""
        return Rows(
            self.key[rows],
            self.stratum[rows],
            self.sample_id[rows],
            self.influence[rows],
            self.effort[rows],
            self.score[rows],
            None if self.tie is None else self.tie[rows],
        )

    @staticmethod
    def concatenate(parts: list[Rows]) -> Rows:
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        ties = [part.tie for part in parts if part.tie is not None]
        return Rows(
            np.concatenate([part.key for part in parts]),
            np.concatenate([part.stratum for part in parts]),
            np.concatenate([part.sample_id for part in parts]),
            np.concatenate([part.influence for part in parts]),
            np.concatenate([part.effort for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate(ties) if ties else None,
        )


class StratifiedDraw:
    """Keeps, for each stratum k, the `budgets[k]` offered rows with the lowest keys.

    The result does not depend on the order or grouping of the rows. Draws over parts of the data can be merged by
    offering one's result to the other. At most twice the budget plus one shard is held.
    """

    def __init__(self, budgets: npt.NDArray[np.int64]) -> None:
        self._budgets = np.asarray(budgets, dtype=np.int64)
        self._kept: list[Rows] = [Rows.empty()]
        self._held = 0
        self._room = 2 * int(self._budgets.sum()) + 1024
        highest = np.iinfo(np.uint64).max
        # The highest key that can still enter a stratum; it falls as the stratum fills.
        self._bar = np.where(self._budgets > 0, highest, np.uint64(0)).astype(np.uint64)

    def offer(self, rows: Rows) -> None:
        """Consider more rows."""
        chosen = rows.take((rows.key <= self._bar[rows.stratum]) & (self._budgets[rows.stratum] > 0))
        if not len(chosen):
            return
        self._kept.append(chosen)
        self._held += len(chosen)
        if self._held > self._room:
            self._compact()

    def result(self) -> Rows:
        """Return the rows drawn so far, ordered by stratum and key."""
        return self._compact()

    def _compact(self) -> Rows:
        rows = Rows.concatenate(self._kept)
        order = (rows.sample_id, rows.key, rows.stratum) if rows.tie is None else (rows.tie, rows.key, rows.stratum)
        rows = rows.take(np.lexsort(order))
        starts = np.searchsorted(rows.stratum, np.arange(len(self._budgets)))
        rank = np.arange(len(rows)) - starts[rows.stratum]
        rows = rows.take(rank < self._budgets[rows.stratum])
        sizes = np.bincount(rows.stratum, minlength=len(self._budgets))
        full = np.flatnonzero((sizes == self._budgets) & (sizes > 0))
        self._bar[full] = rows.key[np.cumsum(sizes)[full] - 1]
        self._kept, self._held = [rows], len(rows)
        return rows
