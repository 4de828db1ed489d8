"""The solve of the influence: h = (H + λI)⁻¹v over a run's samples, kept so that a killed stage goes on from it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load, save
from torch import Tensor

from cluster.capacity_watch import watch_capacity
from cluster.errors import UserError
from cluster.reduce import ReducePool
from cluster.resources import PoolPlan
from pipeline.engine.config import InfluenceConfig
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import train_shards
from pipeline.ingest.statistics_record import train_count
from pipeline.stages.influence_passes import Array, Risk, SumWorker
from pipeline.stages.pooled_curvature import mean_of, pooled_curvature
from pipeline.stages.surrogate_source import SurrogateSource, on_one_thread
from scoring.curvature_draw import CurvatureCut
from scoring.exceptions import ScoringError
from scoring.influence import solve_direction
from scoring.kronecker import linear_layers
from scoring.solver_settings import SolverName, SolverSettings

#: The files below the stage's folder; each JSON file is written after the tensor that it describes.
SOLUTION, DIRECTION = "_solution.json", "_direction.safetensors"
_GRADIENT, _V = "_gradient.json", "_gradient.safetensors"
#: The settings that change the result of each solver.
_REMEDIES = {
    "none": ("scope",),
    "cg": ("max_iterations", "damping", "tolerance"),
    "exact": ("damping", "scope"),
    "ekfac": ("damping", "scope"),
    "lissa": ("lissa_scale", "lissa_damp"),
}


@dataclass(frozen=True)
class SolveFacts:
    """The recorded facts of a solve.

    Attributes
    ----------
    target : the samples of the risk whose gradient v is.
    scope, parameters : names and number of the parameters in scope.
    risk_samples, curvature_samples : samples that v and H are means over.
    v_dot_h : ⟨v, h⟩, the mean influence on the train risk.
    """

    target: str
    solver: str
    scope: list[str]
    parameters: int
    risk_samples: int
    curvature_samples: int
    residual: float | None
    iterations: int
    v_dot_h: float
    gradient_seconds: float
    solve_seconds: float


@dataclass(frozen=True)
class InfluenceSolution:
    """A solve and its direction h, float64 [P]."""

    facts: SolveFacts
    direction: npt.NDArray[np.generic]


@dataclass(frozen=True)
class _RiskGradient:
    """v, float64 [P], the number of samples that it is the mean over, and the seconds that it took."""

    v: Tensor
    samples: int
    seconds: float


@dataclass(frozen=True)
class InfluenceSolve:
    """One solve, in the folder of its stage.

    Attributes
    ----------
    context : the stage that needs the solve; the section `influence` of its config has the settings.
    source : the trained surrogate.
    pool : the workers that compute the sums.
    risk : the risk whose gradient v is.
    cut : how the curvature samples are held.
    """

    context: StageContext
    source: SurrogateSource
    pool: PoolPlan
    risk: Risk
    cut: CurvatureCut = field(default_factory=CurvatureCut)

    def solution(self) -> InfluenceSolution:
        """Return the solution that the folder keeps; solve for it first if there is none."""
        out = self.context.out
        if not out.exists(SOLUTION):
            solved = self._solve()
            out.write_bytes(DIRECTION, save({"direction": np.ascontiguousarray(solved.direction)}))
            out.write_json(SOLUTION, asdict(solved.facts))
        facts = SolveFacts(**out.read_json(SOLUTION))
        return InfluenceSolution(facts, load(out.read_bytes(DIRECTION))["direction"])

    def _solve(self) -> InfluenceSolution:
        section, data = self.context.config.influence, self.context.folder("ingest")
        objective, scope = self.source.build()
        layers = linear_layers(objective, scope) if section.solver == "ekfac" else ()
        indices = train_shards(data)
        pooled = ReducePool(
            SumWorker, {"source": self.source, "data": data}, indices, self.pool.minimum, self.pool.shape
        )
        with watch_capacity(self.pool.shape, 1, self.pool.wait_seconds), pooled as pool:
            gradient = self._gradient(pool, len(indices))
            v, start = gradient.v, time.perf_counter()
            self.context.progress.update(0, len(indices), doing=f"solving by {section.solver}")
            curvature = pooled_curvature(section, self.cut, pool, indices, train_count(data))
            with on_one_thread(), _solver_faults(section.solver, self.risk):
                solution = solve_direction(solver_settings(section), curvature, v, scope, layers)
            solve_seconds = time.perf_counter() - start
        facts = SolveFacts(
            target=self.risk.target,
            solver=section.solver,
            scope=list(scope.names),
            parameters=scope.size,
            risk_samples=gradient.samples,
            curvature_samples=curvature.used if section.solver != "none" else 0,
            residual=solution.residual,
            iterations=solution.iterations,
            v_dot_h=float(v @ solution.direction),
            gradient_seconds=gradient.seconds,
            solve_seconds=solve_seconds,
        )
        return InfluenceSolution(facts, solution.direction.numpy())

    def _gradient(self, pool: ReducePool, parts: int) -> _RiskGradient:
        """Compute v and keep it in the folder, so that a solve that was killed does not go over all samples again."""
        out = self.context.out
        if out.exists(_GRADIENT):
            facts = out.read_json(_GRADIENT)
            return _RiskGradient(torch.from_numpy(load(out.read_bytes(_V))["v"]), **facts)
        start = time.perf_counter()
        v, samples = mean_of(self._gradient_sums(pool, parts))
        seconds = time.perf_counter() - start
        out.write_bytes(_V, save({"v": v.numpy()}))
        out.write_json(_GRADIENT, {"samples": samples, "seconds": seconds})
        return _RiskGradient(v, samples, seconds)

    def _gradient_sums(self, pool: ReducePool, parts: int) -> Iterator[tuple[Array, int]]:
        """Yield sums of loss gradients over the parts of the risk's samples, and the number of samples of each part."""
        for done, part in enumerate(pool.map("risk_gradient", self.risk)):
            self.context.progress.update(done, parts, doing="gradient of the risk")
            yield part


@contextlib.contextmanager
def _solver_faults(solver: str, risk: Risk) -> Iterator[None]:
    """Turn a solver's error into a `UserError` that names the keys."""
    try:
        yield
    except ScoringError as error:
        keys = ", ".join(f"influence.{key}" for key in _REMEDIES[solver])
        stage = "influence" if risk.period is None else "reference_influence"
        raise UserError(
            f"influence.solver {solver}: {error}.",
            f"Change what it names ({keys}), or influence.solver, and recompute by "
            f"`dealrec run CONFIG --from {stage}`.",
        ) from error


def solver_settings(
    section: InfluenceConfig, solver: SolverName | None = None, damping: float | None = None
) -> SolverSettings:
    """Return the configured settings, with another solver or another damping where one is given."""
    configured = SolverSettings(**section.model_dump(include={field.name for field in fields(SolverSettings)}))
    return replace(
        configured,
        solver=configured.solver if solver is None else solver,
        damping=configured.damping if damping is None else damping,
    )
