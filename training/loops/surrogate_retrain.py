"""A surrogate trained again on part of its targets, in one process: what an audit of influence measures with."""

from __future__ import annotations

import numpy as np
import torch

from scoring.surrogate import Surrogate, build_surrogate
from training.loops.surrogate_data import TrainWindows
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.surrogate_step import SurrogateStepper


def retrain_surrogate(
    spec: SurrogateSpec, windows: TrainWindows, item_counts: np.ndarray, epochs: int, device: torch.device
) -> Surrogate:
    """Train from the same initial weights and seeds as the run's surrogate, for a fixed number of epochs.

    Without anything removed it is the training of one worker, step by step, without the choice of an epoch.

    Parameters
    ----------
    windows : what is trained on, some targets perhaps removed.
    item_counts : int64 [V], of the whole log, so that the proposal of sampled losses stays what it was.
    """
    model = build_surrogate(spec.settings.model, len(item_counts), spec.network, torch.tensor(item_counts)).to(device)
    stepper = SurrogateStepper(spec, model, windows, device)
    model.train()
    for epoch in range(epochs):
        for rows in stepper.batches(epoch):
            stepper.step(rows)
    return model.eval()
