"""Training of the surrogate recommender by Ray Train: the driver's part, and loading what it wrote."""

from __future__ import annotations

import logging

import safetensors.torch
import torch

from cluster.errors import UserError
from cluster.progress import Progress
from cluster.storage import Storage
from scoring.exceptions import SettingError
from scoring.surrogate import Surrogate, build_surrogate
from training.loops.launch import Launch, launch_once
from training.loops.repeats import masking_notice, repeated_targets
from training.loops.surrogate_data import item_counts, valid_users
from training.loops.surrogate_loop import SurrogateJob, surrogate_loop
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.training_records import SurrogateMetrics, surrogate_metrics
from training.loops.worker_placement import require_resources

log = logging.getLogger("dealrec.training")


def train_surrogate(
    spec: SurrogateSpec, data: Storage, out: Storage, scratch: Storage, progress: Progress
) -> SurrogateMetrics:
    """Train on every train position, keep the epoch with the best validation NDCG@10, and write it.

    Called again with the same settings, data and scratch after anything was killed, it goes on from the last
    complete epoch, on any number of workers.

    Parameters
    ----------
    data : the run's data folder (sequences, samples/valid, items.parquet).
    out : receives model.safetensors and metrics.json.
    scratch : checkpoints; all nodes must reach it and `data`. It may go once `out` is complete.
    progress : counts optimizer steps.

    Returns
    -------
    The content of metrics.json; each of its `epochs` has loss, ndcg@10, recall@10, seconds and samples_per_second.

    Raises
    ------
    UserError : a setting that the surrogate refuses, nothing to train or validate on, workers that the cluster
        cannot hold, or a loss that is not finite.
    """
    settings = spec.settings
    require_resources("surrogate", settings.workers, spec.placement)
    counts = item_counts(data)
    try:
        build_surrogate(settings.model, len(counts), spec.network)
    except SettingError as error:
        raise UserError(f"surrogate: {error}.", "Correct the settings of the surrogate.") from error
    stamp = spec.stamp(_inventory(data))
    run = Launch.stamped("surrogate", stamp, settings.workers, spec.placement)
    folder = run.folder(scratch)
    outcome = launch_once(surrogate_loop, SurrogateJob(spec, data, folder, stamp), run, scratch, progress)
    best = outcome["epochs"][outcome["best_epoch"] - 1]
    seconds = sum(row["seconds"] for row in outcome["epochs"])
    metrics: SurrogateMetrics = {
        "epochs": outcome["epochs"],
        "steps": outcome["steps"],
        "best_epoch": outcome["best_epoch"],
        "ndcg@10": best["ndcg@10"],
        "recall@10": best["recall@10"],
        "config": outcome["config"],
        "item_count": outcome["item_count"],
        "train_targets": outcome["train_targets"],
        "valid_users": outcome["valid_users"],
        "workers": outcome["workers"],
        "peak_memory": outcome["peak_memory"],
        "surrogate": settings.model,
        "samples_per_second": outcome["train_targets"] * len(outcome["epochs"]) / seconds,
    }
    file = outcome["best_file"]
    assert file is not None
    _warn(metrics, spec, data)
    out.write_bytes("model.safetensors", folder.read_bytes(file))
    out.write_json("metrics.json", metrics)
    return metrics


def _warn(metrics: SurrogateMetrics, spec: SurrogateSpec, data: Storage) -> None:
    """Say when the scores will be those of a model that has learnt too little, or seems to have."""
    users = valid_users(data, spec)
    repeated = 0 if users.seen is None else repeated_targets(users.targets, users.seen)
    notice = masking_notice(repeated, len(users.targets.values), "validation")
    if notice is not None:
        log.warning("%s.", notice)
        # Whatever it has learnt, its figures do not show it.
        return
    if metrics["ndcg@10"] == 0:
        log.warning(
            "The surrogate puts no validation user's target among its first ten (NDCG@10 is 0), so its scores say "
            "little. More surrogate.epochs, another surrogate.lr or more data may help."
        )
    elif metrics["best_epoch"] == spec.settings.epochs:
        log.warning(
            "The surrogate was best after its last epoch (%d): more surrogate.epochs would make it better.",
            spec.settings.epochs,
        )


def load_surrogate(folder: Storage, device: torch.device | str = "cpu") -> Surrogate:
    """Load the surrogate that `train_surrogate` wrote, in evaluation mode."""
    metrics = surrogate_metrics(folder)
    model = build_surrogate(metrics["surrogate"], metrics["item_count"], metrics["config"])
    model.load_state_dict(safetensors.torch.load(folder.read_bytes("model.safetensors")))
    return model.to(device).eval()


def _inventory(data: Storage) -> list[tuple[str, int]]:
    """Return the names and sizes of the files that training reads."""
    files = [("", "items.parquet")]
    for sub in ("sequences", "samples/valid"):
        files += [(sub, name) for name in data.list(sub, suffix=".parquet")]
    return [(f"{sub}/{name}", data.size(f"{sub}/{name}" if sub else name)) for sub, name in files]
