"""The actors of an audit that score the samples: all ways of one scope together, each solve timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.config import AuditConfig, InfluenceConfig
from pipeline.engine.sample_tables import SampleShard
from pipeline.stages.surrogate_source import SurrogateSource, one_thread
from pipeline.studies.audit.audit_arms import ScoreSpec
from pipeline.studies.audit.audit_rows import WayFacts
from pipeline.studies.audit.effects import Effects, risk_gradients
from pipeline.studies.audit.loaded_log import AuditLog
from pipeline.studies.audit.retraining import losses_of
from pipeline.studies.audit.solving import ScopeScorer
from scoring.batching import HistoryBatch
from scoring.curvature_draw import curvature_keys, first_rows
from scoring.difficulty import gradient_norms
from scoring.exceptions import ScoringError, SettingError
from scoring.ids import draw_order
from scoring.released import ReleasedInfluence
from scoring.sasrec import SASRec

Scores = npt.NDArray[np.float32]


class ScoreWorker:
    """Scores the samples in every way of a group; the shards are the groups on the clean, then on the planted log.

    Parameters
    ----------
    groups : the ways to score, grouped by `score_groups` so that they share passes.
    clean, planted : the run's surrogate, and the one trained on the log with planted targets.
    effects : what retraining showed; every way on the clean log is compared with it.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[ScoreSpec]],
        influence: InfluenceConfig,
        audit: AuditConfig,
        data: Storage,
        clean: SurrogateSource,
        planted: SurrogateSource,
        effects: Effects,
    ) -> None:
        one_thread()
        self._groups, self._influence, self._audit, self._effects = groups, influence, audit, effects
        log = AuditLog.read(data)
        self._sides = ((log, clean), (log.plant(audit.planted, audit.seed), planted))

    def __call__(self, index: int) -> tuple[pa.Table, Mapping[str, WayFacts]]:
        side, place = divmod(index, len(self._groups))
        group, (log, source) = self._groups[place], self._sides[side]
        samples, effects = log.samples, self._effects if side == 0 else None
        if group[0].settings is None:
            scored, facts = self._control(group[0], log, source, samples, effects)
        else:
            scored, facts = ScopeScorer(group, self._influence, self._audit, log, source, effects).score(samples)
        nothing = np.full(len(samples), np.nan, dtype=np.float32)
        columns = {spec.label: scored.get(spec.label, nothing) for spec in group}
        return pa.table({"sample_id": samples.sample_id, **columns}), facts

    def _control(
        self, spec: ScoreSpec, log: AuditLog, source: SurrogateSource, samples: SampleShard, effects: Effects | None
    ) -> tuple[dict[str, Scores], dict[str, WayFacts]]:
        started = time.perf_counter()
        try:
            if spec.method == "released":
                scores, found = self._released(log, samples, source, effects)
                return {spec.label: scores}, {spec.label: found}
            scores = self._plain(spec.method, samples, source)
        except ScoringError as error:
            return {}, {spec.label: {"error": str(error)}}
        seconds = time.perf_counter() - started
        facts: WayFacts = {"seconds": seconds}
        if effects:
            facts |= effects.score_for_all(samples.sample_id, scores)
        return {spec.label: scores}, {spec.label: facts}

    def _plain(self, method: str, samples: SampleShard, source: SurrogateSource) -> Scores:
        """Compute scores that look at each sample alone."""
        if method == "random":
            return draw_order(samples.sample_id, self._audit.seed).astype(np.float32)
        if method == "loss":
            history = samples.history.tail(int(source.config["max_history"]))
            return losses_of(source.build_model(), history, samples.target)
        return _gradient_norms(samples, source)

    def _released(
        self, log: AuditLog, samples: SampleShard, source: SurrogateSource, effects: Effects | None
    ) -> tuple[Scores, WayFacts]:
        """Score by the released recipe.

        Its v is the gradient of its own loss on the train samples; that of a query is on the query's samples.
        """
        model = source.build_model()
        if not isinstance(model, SASRec):
            raise SettingError("the released recipe is written for SASRec")
        recipe = ReleasedInfluence(model)
        gradients = risk_gradients(recipe.gradient_sums, log, source, "train", effects, self._audit)
        singles = partial(_singles, log.samples, source, self._audit.released_steps)
        started = time.perf_counter()
        direction = recipe.solve(gradients.whole, singles()).direction
        facts: WayFacts = {"seconds": time.perf_counter() - started}
        if effects:
            predicted = gradients.predict(recipe.solve(gradients.stacked, singles()).direction)
            facts |= effects.score(predicted)
        scores = np.empty(len(samples), dtype=np.float32)
        for rows, batch in source.batches(samples):
            scores[rows] = recipe.scores(direction, batch)
        return scores, facts


def _gradient_norms(samples: SampleShard, source: SurrogateSource) -> Scores:
    """Return ‖∇ℓ(s)‖ over the default scope."""
    objective, scope = source.build()
    norms = np.empty(len(samples), dtype=np.float32)
    for rows, batch in source.batches(samples):
        norms[rows] = gradient_norms(objective, scope, batch)
    return norms


def _singles(samples: SampleShard, source: SurrogateSource, steps: int) -> Iterator[HistoryBatch]:
    """Yield single samples in a seeded order, one per step."""
    order = first_rows(curvature_keys(samples.sample_id))
    for step in range(steps):
        row = order[step % len(order)]
        yield next(source.batches(samples.take(np.array([row]))))[1]
