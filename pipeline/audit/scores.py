"""What runs in the actors of an audit that score the samples, each way in one process and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from pipeline.audit.log import AuditLog
from pipeline.audit.retraining import losses_of
from pipeline.audit.specs import ScoreSpec
from pipeline.config import AuditConfig, InfluenceConfig
from pipeline.stages.influence_workers import CURVATURE_SEED, SurrogateSource
from pipeline.tables import SampleShard
from scoring.batching import HistoryBatch
from scoring.errors import ScoringError
from scoring.gradients import mean_loss_gradient_sum, per_sample_gradients
from scoring.ids import draw_order
from scoring.influence import LocalCurvature, influence_scores, linear_layers, solve_direction
from scoring.objective import reduce_to_scope
from scoring.released import ReleasedInfluence
from scoring.surrogate import surrogate_scope

Scores = npt.NDArray[np.float32]
_GRADIENT_NUMBERS = 1 << 25


class ScoreWorker:
    """Scores every sample one way; each way is a shard, first all on the clean log, then all on the planted.

    Parameters
    ----------
    specs : the ways.
    clean, planted : the run's surrogate, and the one trained on the log with planted targets.
    """

    def __init__(
        self,
        specs: Sequence[ScoreSpec],
        influence: InfluenceConfig,
        audit: AuditConfig,
        data: Storage,
        clean: SurrogateSource,
        planted: SurrogateSource,
    ) -> None:
        self._specs, self._influence, self._audit = specs, influence, audit
        log = AuditLog.read(data)
        self._logs = (log, log.plant(audit.planted, audit.seed, int(clean.config["item_count"]))[0])
        self._sources = (clean, planted)

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        side, place = divmod(index, len(self._specs))
        spec, log, source = self._specs[place], self._logs[side], self._sources[side]
        started = time.perf_counter()
        try:
            scores, facts = self._score(spec, log, source)
        except ScoringError as error:
            scores, facts = np.full(len(log.samples), np.nan, dtype=np.float32), {"error": str(error)}
        facts["seconds"] = time.perf_counter() - started
        return pa.table({"sample_id": log.samples.sample_id, "score": scores}), facts

    def _score(self, spec: ScoreSpec, log: AuditLog, source: SurrogateSource) -> tuple[Scores, dict[str, Any]]:
        if spec.method == "random":
            return draw_order(log.samples.sample_id, self._audit.seed).astype(np.float32), {}
        if spec.method == "loss":
            history = log.samples.history.tail(int(source.config["max_history"]))
            return losses_of(source.build_model(), history, log.samples.target), {}
        if spec.method == "gradient norm":
            return _gradient_norms(log, source), {}
        if spec.method == "released":
            return _released(log, source, self._audit.released_steps)
        return _influence(spec, self._influence, log, source)


def _influence(
    spec: ScoreSpec, influence: InfluenceConfig, log: AuditLog, source: SurrogateSource
) -> tuple[Scores, dict[str, Any]]:
    assert spec.settings is not None
    assert spec.scope is not None
    model = source.build_model()
    scope = surrogate_scope(model, (spec.scope,))
    objective = reduce_to_scope(model, scope)
    risk = log.samples if influence.target == "train" else log.valid
    total, count = mean_loss_gradient_sum(objective, scope, (batch for _, batch in source.batches(risk)))
    wanted = len(log.samples) if influence.curvature_samples == "all" else influence.curvature_samples
    drawn = np.argsort(draw_order(log.samples.sample_id, CURVATURE_SEED), kind="stable")[:wanted]
    batches = [batch for _, batch in source.batches(log.samples.take(drawn))]
    layers = linear_layers(objective, scope) if spec.method == "ekfac" else ()
    curvature = LocalCurvature(objective, scope, batches if spec.method != "none" else [])
    solution = solve_direction(spec.settings, curvature, total / count, scope, layers)
    scores = np.empty(len(log.samples), dtype=np.float32)
    for rows, batch in source.batches(log.samples):
        scores[rows] = influence_scores(objective, scope, solution.direction, batch)
    return scores, {"residual": solution.residual, "iterations": solution.iterations, "parameters": scope.size}


def _gradient_norms(log: AuditLog, source: SurrogateSource) -> Scores:
    """‖∇ℓ(s)‖ over the default scope."""
    model = source.build_model()
    scope = surrogate_scope(model, None)
    objective = reduce_to_scope(model, scope)
    at_once = max(1, _GRADIENT_NUMBERS // scope.size)
    norms = np.empty(len(log.samples), dtype=np.float32)
    for rows, batch in source.batches(log.samples):
        for start in range(0, len(rows), at_once):
            span = slice(start, start + at_once)
            part = HistoryBatch(batch.history[span], batch.lengths[span], batch.target[span])
            norms[rows[span]] = per_sample_gradients(objective, scope, part).norm(dim=1).numpy()
    return norms


def _released(log: AuditLog, source: SurrogateSource, steps: int) -> tuple[Scores, dict[str, Any]]:
    recipe = ReleasedInfluence(source.build_model())
    v = recipe.gradient_mean(batch for _, batch in source.batches(log.samples))
    solution = recipe.solve(v, _singles(log.samples, source, steps))
    scores = np.empty(len(log.samples), dtype=np.float32)
    for rows, batch in source.batches(log.samples):
        scores[rows] = recipe.scores(solution.direction, batch)
    return scores, {"iterations": solution.iterations}


def _singles(samples: SampleShard, source: SurrogateSource, steps: int) -> Iterator[HistoryBatch]:
    """Single samples in a seeded order, one a step."""
    order = np.argsort(draw_order(samples.sample_id, CURVATURE_SEED), kind="stable")
    for step in range(steps):
        row = order[step % len(order)]
        yield next(source.batches(samples.take(np.array([row]))))[1]
