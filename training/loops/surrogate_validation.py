"""How well a surrogate ranks for validation users; each rank scores some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from scoring.batching import collate
from scoring.ragged import Ragged
from scoring.surrogate import Surrogate
from training.loops.rank_gather import gathered
from training.loops.surrogate_data import ValidUsers
from training.ranking.ranking_metrics import rank_targets, user_metrics

_SCORES_AT_ONCE = 1 << 24


def ranking_metrics(model: Surrogate, users: ValidUsers, device: torch.device) -> dict[str, float]:
    """Return `ndcg@10` and `recall@10` among all items but the masked ones, mean over all users. Collective.

    Ranks of targets are gathered from the workers and averaged once, so their number does not matter.
    The model must be in evaluation mode.
    """
    count = len(users.history)
    own = np.arange(dist.get_rank(), count, dist.get_world_size())
    everywhere = gathered(target_ranks(model, users, own, device))
    return mean_metrics([everywhere[row % len(everywhere)][row // len(everywhere)] for row in range(count)])


@torch.no_grad()
def target_ranks(
    model: Surrogate, users: ValidUsers, rows: npt.NDArray[np.int64], device: torch.device
) -> list[npt.NDArray[np.int32]]:
    """Rank the targets of the users `rows` among all items that are not masked; return an array a user."""
    rows_at_once = max(1, _SCORES_AT_ONCE // model.item_count)
    found: list[npt.NDArray[np.int32]] = []
    for start in range(0, len(rows), rows_at_once):
        part = users.take(rows[start : start + rows_at_once])
        scores = model.logits(model.encode(*padded_history(part.history, device)))
        ranks = rank_targets(scores.float().cpu().numpy(), part.targets, part.seen)
        found += [ranks.row(row) for row in range(len(ranks))]
    return found


def mean_metrics(ranks: Sequence[npt.NDArray[np.int32]]) -> dict[str, float]:
    """Return `ndcg@10` and `recall@10`, mean over users, from the ranks of each user's targets."""
    metrics = user_metrics(Ragged.from_rows(ranks), (10,))
    return {name: float(np.nanmean(values)) for name, values in metrics.items()}


def padded_history(history: Ragged, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return int64 [B, T], padded on the right with 0, and lengths [B]."""
    batch = collate(history, np.zeros(len(history), dtype=np.int64), np.arange(len(history)), device)
    return batch.history, batch.lengths
