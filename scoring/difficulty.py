"""How difficult samples are for a trained surrogate, and where they lie in its embedding space.

EL2N and GraNd are from Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoring.batching import HistoryBatch
from scoring.gradients import gradient_parts
from scoring.objective import Differentiable
from scoring.sasrec import SASRec
from scoring.scope import Scope


def error_norms(model: SASRec, batch: HistoryBatch) -> npt.NDArray[np.float32]:
    """Return EL2N, float32 [B]: ‖softmax(z) − onehot(target)‖₂ over the candidates of the surrogate's loss."""
    with torch.no_grad():
        error = model.outputs(batch).softmax(-1)
        error[torch.arange(len(error)), model.head.target_column(batch)] -= 1.0
        return error.norm(dim=-1).to("cpu", torch.float32).numpy()


def gradient_norms(objective: Differentiable, scope: Scope, batch: HistoryBatch) -> npt.NDArray[np.float32]:
    """Return GraNd, float32 [B]: ‖∇ℓ(s)‖₂ over the parameters in scope, for the loss at the target."""
    norms = [gradients.norm(dim=-1) for _, gradients in gradient_parts(objective, scope, batch)]
    return torch.cat(norms).to("cpu", torch.float32).numpy() if norms else np.empty(0, dtype=np.float32)


def pair_embeddings(model: SASRec, batch: HistoryBatch) -> npt.NDArray[np.float32]:
    """Return float32 [B, 2d]: the encoded history and the target's embedding, each scaled to length 1/√2.

    A row then has length 1, and both halves have equal weight in a distance.
    """
    with torch.no_grad():
        halves = (model.encode(batch.history, batch.lengths), model.item_embedding(batch.target))
        pair = torch.cat([_unit(half) for half in halves], dim=-1) / 2**0.5
    return pair.to("cpu", torch.float32).numpy()


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)
