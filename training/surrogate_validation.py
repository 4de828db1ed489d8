"""How well a surrogate ranks for validation users; each rank scores some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from scoring.batching import collate
from scoring.ragged import Ragged
from scoring.surrogate import Surrogate
from training.metrics import rank_targets, user_metrics
from training.surrogate_data import ValidUsers

_SCORES_AT_ONCE = 1 << 24


@torch.no_grad()
def ranking_metrics(model: Surrogate, users: ValidUsers, device: torch.device) -> dict[str, float]:
    """`ndcg@10` and `recall@10` among all items but the seen ones, mean over all users. Collective.

    Ranks of targets are gathered from the workers and averaged once, so their number does not matter.
    The model must be in evaluation mode.
    """
    count = len(users.history)
    own = np.arange(dist.get_rank(), count, dist.get_world_size())
    rows_at_once = max(1, _SCORES_AT_ONCE // model.item_count)
    found: list[np.ndarray] = []
    for start in range(0, len(own), rows_at_once):
        part = users.take(own[start : start + rows_at_once])
        scores = model.logits(model.encode(*_padded(part.history, device)))
        ranks = rank_targets(scores.float().cpu().numpy(), part.targets, part.seen)
        found += [ranks.row(row) for row in range(len(ranks))]
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, found)
    gathered = [everywhere[row % len(everywhere)][row // len(everywhere)] for row in range(count)]
    metrics = user_metrics(Ragged.from_rows(gathered), (10,))
    return {name: float(np.nanmean(values)) for name, values in metrics.items()}


def _padded(history: Ragged, device: torch.device) -> tuple[Tensor, Tensor]:
    """int64 [B, T] padded on the right with 0, and lengths [B]."""
    batch = collate(history, np.zeros(len(history), dtype=np.int64), np.arange(len(history)), device)
    return batch.history, batch.lengths
