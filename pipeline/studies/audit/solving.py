"""Run all solvers and dampings of one scope on the same samples: each solve timed, then one pass for all scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.engine.config import AuditConfig, InfluenceConfig
from pipeline.engine.sample_tables import SampleShard
from pipeline.stages.surrogate_source import SurrogateSource
from pipeline.studies.audit.audit_arms import ScoreSpec
from pipeline.studies.audit.audit_rows import WayFacts
from pipeline.studies.audit.effects import Effects, risk_gradients
from pipeline.studies.audit.loaded_log import AuditLog
from scoring.curvature_draw import CurvatureCut, curvature_keys, first_rows
from scoring.exceptions import ScoringError
from scoring.gradients import directional_derivatives_many, weighted_gradient_sums
from scoring.influence import (
    KroneckerBasis,
    LayerSums,
    LocalCurvature,
    eigensystem,
    kronecker_system,
    linear_layers,
    solve_direction,
)
from scoring.objective import Differentiable, reduce_to_scope
from scoring.scope import Scope
from scoring.solvers import Eigensystem, Solution, solve_ekfac, solve_exact
from scoring.surrogate import surrogate_scope

#: Solvers that factor the curvature once for any number of right-hand sides.
_DIRECT = ("exact", "ekfac")


class ScopeScorer:
    """Scores in the ways that differ only in solver and damping.

    Parameters
    ----------
    group : the ways to score, all with one scope.
    effects : the measured effects to predict; None if only scores are wanted.
    """

    def __init__(
        self,
        group: Sequence[ScoreSpec],
        influence: InfluenceConfig,
        audit: AuditConfig,
        log: AuditLog,
        source: SurrogateSource,
        effects: Effects | None,
    ) -> None:
        self._group, self._source, self._effects = group, source, effects
        model = source.build_model()
        self._scope = surrogate_scope(model, (str(group[0].scope),))
        self._objective: Differentiable = reduce_to_scope(model, self._scope)
        sums = partial(weighted_gradient_sums, self._objective, self._scope)
        self._gradients = risk_gradients(sums, log, source, influence.target, effects, audit)
        self._curvature, self._preparation = _curvature(self._objective, self._scope, influence, log, source)
        self._exact: tuple[Eigensystem, float] | None = None
        self._kronecker: tuple[tuple[KroneckerBasis, LayerSums], float] | None = None

    def score(self, samples: SampleShard) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, WayFacts]]:
        """Return scores [N] and facts, both by label.

        The facts are the seconds of the solve, the residual and the predictions, or the error.
        """
        facts: dict[str, WayFacts] = {}
        directions: dict[str, Tensor] = {}
        for spec in self._group:
            try:
                directions[spec.label], facts[spec.label] = self._solve(spec)
            except ScoringError as error:
                facts[spec.label] = {"error": str(error)}
        scores = np.empty((len(samples), len(directions)), dtype=np.float32)
        if directions:
            stacked = torch.stack(list(directions.values()))
            for rows, batch in self._source.batches(samples):
                found = directional_derivatives_many(self._objective, self._scope, stacked, batch)
                scores[rows] = found.float().numpy()
        return dict(zip(directions, scores.T, strict=True)), facts

    def _solve(self, spec: ScoreSpec) -> tuple[Tensor, WayFacts]:
        """Return h for the risk itself, and facts; the queries' directions are used and dropped."""
        whole = self._gradients.whole
        together = spec.method in _DIRECT
        preparation = self._prepare(spec.method)
        started = time.perf_counter()
        solution = self._solution(spec, torch.cat([whole[None], self._gradients.stacked]) if together else whole)
        seconds = time.perf_counter() - started + preparation
        facts: WayFacts = {
            "seconds": seconds,
            "residual": solution.residual,
            "iterations": solution.iterations,
            "parameters": self._scope.size,
        }
        if self._effects:
            # Iterative solvers are timed on the one system that a run solves; the queries are solved afterwards.
            rest = solution.direction[1:] if together else self._solution(spec, self._gradients.stacked).direction
            facts |= self._effects.score(self._gradients.predict(rest))
        return solution.direction[0] if together else solution.direction, facts

    def _prepare(self, method: str) -> float:
        """Return the seconds of what all dampings of a solver share.

        They count in full for each damping, as if it ran alone.
        """
        if method == "none":
            return 0.0
        if method not in _DIRECT:
            return self._preparation
        started = time.perf_counter()
        if method == "exact":
            if self._exact is None:
                self._exact = eigensystem(self._curvature, self._scope), time.perf_counter() - started
            return self._preparation + self._exact[1]
        if self._kronecker is None:
            self._kronecker = kronecker_system(self._curvature), time.perf_counter() - started
        return self._preparation + self._kronecker[1]

    def _solution(self, spec: ScoreSpec, v: Tensor) -> Solution:
        assert spec.settings is not None
        damping = spec.settings.damping
        if spec.method == "exact":
            assert self._exact is not None
            return solve_exact(self._exact[0], v, damping)
        if spec.method == "ekfac":
            layers = linear_layers(self._objective, self._scope)
            assert self._kronecker is not None
            basis, eigenvalues = self._kronecker[0]
            return solve_ekfac(self._scope, layers, basis, eigenvalues, v, damping)
        return solve_direction(spec.settings, self._curvature, v, self._scope)


def _curvature(
    objective: Differentiable, scope: Scope, influence: InfluenceConfig, log: AuditLog, source: SurrogateSource
) -> tuple[LocalCurvature, float]:
    """Return the curvature over the samples that the stage would take, and the seconds of its preparation."""
    cut, total = CurvatureCut(), len(log.samples)
    wanted = total if influence.curvature_samples == "all" else influence.curvature_samples
    drawn = first_rows(curvature_keys(log.samples.sample_id), wanted)
    started = time.perf_counter()
    chunks = [source.batches(log.samples.take(rows)) for rows in cut.chunks(drawn)]
    batches = [[batch for _, batch in chunk] for chunk in chunks]
    curvature = LocalCurvature(objective, scope, batches, prepare=wanted <= cut.kept)
    return curvature, time.perf_counter() - started
