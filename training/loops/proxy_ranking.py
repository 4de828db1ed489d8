"""All-ranking by a proxy, with the conventions of `training.ranking.ranking_metrics`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scoring.ragged import Ragged, concatenate
from training.loops.proxy_loop import padded
from training.loops.proxy_model import ProxyModel
from training.ranking.ranking_metrics import rank_targets


@dataclass(frozen=True, eq=False)
class RankedUsers:
    """U users to rank for: what they chose, oldest first, what comes next, and what is no candidate (None: nothing)."""

    history: Ragged
    targets: Ragged
    seen: Ragged | None

    def __len__(self) -> int:
        return len(self.history)


@torch.no_grad()
def rank_users(model: ProxyModel, users: RankedUsers, groups: npt.NDArray[np.int64], cells: int = 1 << 22) -> Ragged:
    """Return the ranks of each user's targets among all items.

    Parameters
    ----------
    groups : int64 [n], equal for items that share a title.
    cells : scores held at a time.
    """
    model.eval()
    step = max(1, cells // max(len(groups), 1))
    parts = []
    for start in range(0, len(users), step):
        rows = np.arange(start, min(start + step, len(users)))
        scores = model.scores(padded(users.history, rows)).numpy()
        seen = None if users.seen is None else users.seen.take(rows)
        parts.append(rank_targets(scores, users.targets.take(rows), seen, groups))
    return concatenate(parts)
