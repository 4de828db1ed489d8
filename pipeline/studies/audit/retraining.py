"""The actors of an audit that retrain and measure the surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import AuditConfig
from pipeline.engine.wording import counted
from pipeline.stages.surrogate_source import BATCH_OUTPUTS, one_thread
from pipeline.studies.audit.audit_arms import AuditArm
from pipeline.studies.audit.audit_table import ScoreTables
from pipeline.studies.audit.loaded_log import AuditLog
from pipeline.studies.audit.queries import RISKS
from scoring.batching import collate, length_buckets
from scoring.gradients import per_sample_losses
from scoring.ragged import Ragged
from scoring.surrogate import Surrogate
from training.loops.checkpoint import save_tensors
from training.loops.surrogate_data import item_counts, valid_users
from training.loops.surrogate_retrain import retrain_surrogate
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.surrogate_validation import mean_metrics, target_ranks

PLANTED_MODEL = "planted.safetensors"
_BATCH_TOKENS = 8192


class RetrainWorker:
    """Trains and measures one surrogate per arm; each arm is a shard.

    Parameters
    ----------
    spec, epochs : the run's own training, for as many epochs as its best surrogate took.
    arms : the samples that each model is trained without.
    audit : the audit's settings; its seed and number of queries are used.
    scores : the tables with the scores that rank samples for the arms.
    """

    def __init__(
        self,
        spec: SurrogateSpec,
        epochs: int,
        data: Storage,
        arms: Sequence[AuditArm],
        audit: AuditConfig,
        scores: ScoreTables | None,
    ) -> None:
        one_thread()
        self._spec, self._epochs, self._arms = spec, epochs, arms
        self._scores = scores
        self._counts = item_counts(data)
        self._log = AuditLog.read(data)
        self._queries = {risk: self._log.queries(risk, audit.queries, audit.seed) for risk in RISKS}
        self._users = valid_users(data, spec)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        arm = self._arms[index]
        ranking = self._scores.read(arm.score) if self._scores and arm.score else None
        removed = arm.removed(self._log.samples.sample_id, ranking)
        windows = self._log.windows(self._spec.max_history, removed)
        model = retrain_surrogate(self._spec, windows, self._counts, self._epochs, torch.device("cpu"))
        facts = {**self._measure(model, int(removed.sum())), "removed": int(removed.sum())}
        return pa.table({key: [value] for key, value in facts.items()}), facts

    def _measure(self, model: Surrogate, removed: int) -> dict[str, object]:
        ranks = target_ranks(model, self._users, np.arange(len(self._users.history)), torch.device("cpu"))
        measures: dict[str, object] = {**mean_metrics(ranks)}
        for risk, queries in self._queries.items():
            samples = queries.samples
            losses = losses_of(model, samples.history.tail(self._spec.max_history), samples.target)
            if not np.isfinite(losses).all():
                raise UserError(
                    f"A surrogate retrained without {counted(removed, 'sample')} has losses that are not finite.",
                    "Lower surrogate.lr and recompute with `dealrec audit CONFIG --from surrogate`.",
                )
            measures[f"{risk}_risk"] = float(losses.mean(dtype=np.float64))
            measures[f"{risk}_risks"] = queries.means(losses).tolist()
        return measures


class PlantingWorker:
    """Trains one surrogate on a log with planted random targets and keeps its weights."""

    def __init__(self, spec: SurrogateSpec, epochs: int, data: Storage, share: float, seed: int, out: Storage) -> None:
        one_thread()
        self._spec, self._epochs, self._out = spec, epochs, out
        self._counts = item_counts(data)
        self._log = AuditLog.read(data).plant(share, seed)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, object]]:
        nothing = np.zeros(len(self._log.samples), dtype=np.bool_)
        windows = self._log.windows(self._spec.max_history, nothing)
        model = retrain_surrogate(self._spec, windows, self._counts, self._epochs, torch.device("cpu"))
        save_tensors(self._out, PLANTED_MODEL, model.state_dict())
        table = pa.table({"sample_id": self._log.samples.sample_id, "planted": self._log.planted})
        return table, {"planted": int(self._log.planted.sum())}


def losses_of(model: Surrogate, history: Ragged, target: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Return the loss of every sample, float32 [N]."""
    losses = np.empty(len(target), dtype=np.float32)
    for rows in length_buckets(history.lengths, _BATCH_TOKENS, max(1, BATCH_OUTPUTS // model.output_count)):
        losses[rows] = per_sample_losses(model, collate(history, target, rows)).numpy()
    return losses
