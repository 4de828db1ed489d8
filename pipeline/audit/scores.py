"""What runs in the actors of an audit that score the samples: all ways of one scope together, each solve timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from cluster.storage import Storage
from pipeline.audit.log import AuditLog
from pipeline.audit.retraining import losses_of
from pipeline.audit.specs import ScoreSpec
from pipeline.config import AuditConfig, InfluenceConfig
from pipeline.stages.influence_workers import CURVATURE_SEED, PREPARED_SAMPLES, SurrogateSource
from pipeline.tables import SampleShard
from scoring.batching import HistoryBatch
from scoring.difficulty import gradient_norms
from scoring.errors import ScoringError, SettingError
from scoring.gradients import directional_derivatives_many, mean_loss_gradient_sum
from scoring.ids import draw_order
from scoring.influence import LocalCurvature, linear_layers, solve_direction
from scoring.objective import Differentiable, reduce_to_scope
from scoring.released import ReleasedInfluence
from scoring.sasrec import SASRec
from scoring.scope import Scope
from scoring.surrogate import surrogate_scope

Scores = npt.NDArray[np.float32]


class ScoreWorker:
    """Scores the samples in every way of a group; a group is a shard, first all on the clean log, then the planted.

    On the planted log only users' last samples are scored, since only those can be planted; the rest are NaN.

    Parameters
    ----------
    groups : ways that share passes, see `score_groups`.
    clean, planted : the run's surrogate, and the one trained on the log with planted targets.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[ScoreSpec]],
        influence: InfluenceConfig,
        audit: AuditConfig,
        data: Storage,
        clean: SurrogateSource,
        planted: SurrogateSource,
    ) -> None:
        self._groups, self._influence, self._audit = groups, influence, audit
        log = AuditLog.read(data)
        everything = np.arange(len(log.samples))
        planted_log = log.plant(audit.planted, audit.seed, int(clean.config["item_count"]))[0]
        self._sides = ((log, clean, everything), (planted_log, planted, np.flatnonzero(log.last)))

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, Any]]:
        side, place = divmod(index, len(self._groups))
        group, (log, source, rows) = self._groups[place], self._sides[side]
        if group[0].settings is None:
            scored, facts = self._control(group[0], log, source, log.samples.take(rows))
        else:
            scored, facts = _influence(group, self._influence, log, source, log.samples.take(rows))
        columns = {spec.label: np.full(len(log.samples), np.nan, dtype=np.float32) for spec in group}
        for label, scores in scored.items():
            columns[label][rows] = scores
        return pa.table({"sample_id": log.samples.sample_id, **columns}), facts

    def _control(
        self, spec: ScoreSpec, log: AuditLog, source: SurrogateSource, samples: SampleShard
    ) -> tuple[dict[str, Scores], dict[str, Any]]:
        started = time.perf_counter()
        try:
            scores = self._control_scores(spec, log, source, samples)
        except ScoringError as error:
            return {}, {spec.label: {"error": str(error)}}
        return {spec.label: scores}, {spec.label: {"seconds": time.perf_counter() - started}}

    def _control_scores(self, spec: ScoreSpec, log: AuditLog, source: SurrogateSource, samples: SampleShard) -> Scores:
        if spec.method == "random":
            return draw_order(samples.sample_id, self._audit.seed).astype(np.float32)
        if spec.method == "loss":
            history = samples.history.tail(int(source.config["max_history"]))
            return losses_of(source.build_model(), history, samples.target)
        if spec.method == "gradient norm":
            return _gradient_norms(samples, source)
        return _released(log, samples, source, self._audit.released_steps)


def _influence(
    group: Sequence[ScoreSpec],
    influence: InfluenceConfig,
    log: AuditLog,
    source: SurrogateSource,
    samples: SampleShard,
) -> tuple[dict[str, Scores], dict[str, Any]]:
    """Every solver and damping of one scope: v, the solves one by one, then one pass for all directions."""
    model = source.build_model()
    scope = surrogate_scope(model, (str(group[0].scope),))
    objective = reduce_to_scope(model, scope)
    risk = log.samples if influence.target == "train" else log.valid
    total, count = mean_loss_gradient_sum(objective, scope, (batch for _, batch in source.batches(risk)))
    curved, preparation = _curvature(objective, scope, influence, log, source)
    facts: dict[str, Any] = {}
    directions: dict[str, Tensor] = {}
    for spec in group:
        assert spec.settings is not None
        started = time.perf_counter()
        try:
            layers = linear_layers(objective, scope) if spec.method == "ekfac" else ()
            solution = solve_direction(spec.settings, curved, total / count, scope, layers)
        except ScoringError as error:
            facts[spec.label] = {"error": str(error)}
            continue
        seconds = time.perf_counter() - started + (preparation if spec.method != "none" else 0.0)
        directions[spec.label] = solution.direction
        facts[spec.label] = {
            "seconds": seconds,
            "residual": solution.residual,
            "iterations": solution.iterations,
            "parameters": scope.size,
        }
    scores = np.empty((len(samples), len(directions)), dtype=np.float32)
    if directions:
        stacked = torch.stack(list(directions.values()))
        for rows, batch in source.batches(samples):
            scores[rows] = directional_derivatives_many(objective, scope, stacked, batch).float().numpy()
    return dict(zip(directions, scores.T, strict=True)), facts


def _curvature(
    objective: Differentiable, scope: Scope, influence: InfluenceConfig, log: AuditLog, source: SurrogateSource
) -> tuple[LocalCurvature, float]:
    """The curvature over the samples that the stage would take, and the seconds that its preparation took."""
    wanted = len(log.samples) if influence.curvature_samples == "all" else influence.curvature_samples
    drawn = np.argsort(draw_order(log.samples.sample_id, CURVATURE_SEED), kind="stable")[:wanted]
    started = time.perf_counter()
    batches = [batch for _, batch in source.batches(log.samples.take(drawn))]
    curvature = LocalCurvature(objective, scope, batches, prepare=wanted <= PREPARED_SAMPLES)
    return curvature, time.perf_counter() - started


def _gradient_norms(samples: SampleShard, source: SurrogateSource) -> Scores:
    """‖∇ℓ(s)‖ over the default scope."""
    objective, scope = source.build()
    norms = np.empty(len(samples), dtype=np.float32)
    for rows, batch in source.batches(samples):
        norms[rows] = gradient_norms(objective, scope, batch)
    return norms


def _released(log: AuditLog, samples: SampleShard, source: SurrogateSource, steps: int) -> Scores:
    model = source.build_model()
    if not isinstance(model, SASRec):
        raise SettingError("the released recipe is written for SASRec")
    recipe = ReleasedInfluence(model)
    v = recipe.gradient_mean(batch for _, batch in source.batches(log.samples))
    solution = recipe.solve(v, _singles(log.samples, source, steps))
    scores = np.empty(len(samples), dtype=np.float32)
    for rows, batch in source.batches(samples):
        scores[rows] = recipe.scores(solution.direction, batch)
    return scores


def _singles(samples: SampleShard, source: SurrogateSource, steps: int) -> Iterator[HistoryBatch]:
    """Single samples in a seeded order, one a step."""
    order = np.argsort(draw_order(samples.sample_id, CURVATURE_SEED), kind="stable")
    for step in range(steps):
        row = order[step % len(order)]
        yield next(source.batches(samples.take(np.array([row]))))[1]
