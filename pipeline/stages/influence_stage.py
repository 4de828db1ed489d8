"""Stage influence: the gradient of the risk, one curvature solve, and a pass that scores every sample."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from safetensors.numpy import load, save
from torch import Tensor

from cluster.broadcast import Broadcast
from cluster.capacity_watch import watched_room
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.reduce import ReducePool
from cluster.resources import PoolPlan
from cluster.sharded_map import map_shards
from cluster.shards import ShardRecord, pass_cost
from cluster.storage import Storage
from pipeline.engine.config import InfluenceConfig
from pipeline.engine.graph import StageContext
from pipeline.engine.sample_tables import train_count, train_shards
from pipeline.stages.pooled_curvature import mean_of, pooled_curvature
from pipeline.stages.surrogate_source import (
    SHARDS_AT_ONCE,
    InfluenceWorker,
    SumWorker,
    SurrogateSource,
    on_one_thread,
)
from pipeline.stages.worker_pools import scoring_pool
from scoring.exceptions import ScoringError
from scoring.influence import solve_direction
from scoring.kronecker import linear_layers
from scoring.solver_settings import SolverName, SolverSettings
from scoring.surrogate import build_surrogate

SOLUTION = "_solution.json"
_DIRECTION = "_direction.safetensors"
_GRADIENT = "_gradient.json"
_V = "_gradient.safetensors"
#: What makes a difference to each solver.
_REMEDIES = {
    "none": ("scope",),
    "cg": ("max_iterations", "damping", "tolerance"),
    "exact": ("damping", "scope"),
    "ekfac": ("damping", "scope"),
    "lissa": ("lissa_scale", "lissa_damp"),
}
#: Of |mean I − ⟨v, h⟩| over the scores' root mean square: float32 rounding and no more.
_IDENTITY_TOLERANCE = 1e-3


Gradients = Callable[[ReducePool], Iterator[tuple[Any, int]]]
"""Sums of loss gradients over parts of the samples whose mean loss is the risk, and how many samples each part has."""


def run_influence(context: StageContext) -> Mapping[str, Any]:
    """Score all train samples by their influence on the risk of train or of validation."""
    target = context.config.influence.target
    return score_samples(context, context.out, target, risk_gradients(target))


def risk_gradients(target: str) -> Gradients:
    """Of the risk of the "train" or of the "valid" samples."""
    return lambda pool: pool.map(f"{target}_gradient")


def score_samples(context: StageContext, out: Storage, target: str, gradients: Gradients) -> dict[str, Any]:
    """Score all train samples into `out`; the solve is kept, so a killed pass resumes with its missing shards.

    Parameters
    ----------
    target, gradients : whose risk the influence is on; with "train", the scores' mean is checked to be ⟨v, h⟩.
    """
    section, data = context.config.influence, context.folder("ingest")
    indices = train_shards(data)
    pool = scoring_pool(context, len(indices))
    source = surrogate_source(context.folder("surrogate"), out, section.scope)
    if not out.exists(SOLUTION):
        solution, direction = solve(section, source, data, indices, pool, gradients, out, context.progress)
        solution["target"] = target
        Broadcast.put({"direction": direction.numpy()}, out, _DIRECTION)
        out.write_json(SOLUTION, solution)
    solution = out.read_json(SOLUTION)
    direction = load(out.read_bytes(_DIRECTION))
    records = map_shards(
        InfluenceWorker,
        {"source": source, "direction": Broadcast.put(direction, out, _DIRECTION), "data": data},
        indices,
        out,
        pool,
        context.progress,
        at_once=SHARDS_AT_ONCE,
    )
    return solution | check_scores(section, solution, records) | pass_cost(records) | {"workers": pool.minimum}


def surrogate_source(folder: Storage, out: Storage, patterns: Sequence[str] | None) -> SurrogateSource:
    """The trained surrogate, its weights broadcast."""
    metrics = folder.read_json("metrics.json")
    weights = load(folder.read_bytes("model.safetensors"))
    broadcast = Broadcast.put(weights, out, "_weights.safetensors")
    config = {**metrics["config"], "item_count": metrics["item_count"]}
    outputs = build_surrogate(metrics["surrogate"], metrics["item_count"], config).output_count
    return SurrogateSource(metrics["surrogate"], config, broadcast, patterns, outputs)


def solve(
    section: InfluenceConfig,
    source: SurrogateSource,
    data: Storage,
    indices: Sequence[int],
    plan: PoolPlan,
    gradients: Gradients,
    kept: Storage,
    progress: Progress,
) -> tuple[dict[str, Any], Tensor]:
    """h = (H + λI)⁻¹v, float64 [P], and what is worth recording of it.

    v is kept in a folder, so that a solve that was killed does not go over all samples again.
    """
    objective, scope = source.build()
    settings = solver_settings(section)
    layers = linear_layers(objective, scope) if section.solver == "ekfac" else ()
    pooled = ReducePool(SumWorker, {"source": source, "data": data}, indices, plan.minimum, plan.shape)
    with watched_room(plan.shape, 1, plan.wait_seconds), pooled as pool:
        gradient = _risk_gradient(kept, gradients, pool, len(indices), progress)
        v, start = gradient.v, time.perf_counter()
        progress.update(0, len(indices), doing=f"solving by {section.solver}")
        curvature = pooled_curvature(section, pool, indices, train_count(data))
        with on_one_thread(), _solver_faults(section.solver):
            solution = solve_direction(settings, curvature, v, scope, layers)
        solve_seconds = time.perf_counter() - start
    facts = {
        "solver": section.solver,
        "scope": list(scope.names),
        "parameters": scope.size,
        "risk_samples": gradient.samples,
        "curvature_samples": curvature.used if section.solver != "none" else 0,
        "residual": solution.residual,
        "iterations": solution.iterations,
        "v_dot_h": float(v @ solution.direction),
        "gradient_seconds": gradient.seconds,
        "solve_seconds": solve_seconds,
    }
    return facts, solution.direction


@dataclass(frozen=True)
class _RiskGradient:
    """v, float64 [P], the mean over so many samples, and the seconds that it took."""

    v: Tensor
    samples: int
    seconds: float


def _risk_gradient(
    kept: Storage, gradients: Gradients, pool: ReducePool, parts: int, progress: Progress
) -> _RiskGradient:
    if kept.exists(_GRADIENT):
        facts = kept.read_json(_GRADIENT)
        return _RiskGradient(torch.from_numpy(load(kept.read_bytes(_V))["v"]), **facts)
    start = time.perf_counter()
    v, samples = mean_of(_watched(gradients(pool), parts, progress))
    facts = {"samples": samples, "seconds": time.perf_counter() - start}
    kept.write_bytes(_V, save({"v": v.numpy()}))
    # Last: it says that the other is there.
    kept.write_json(_GRADIENT, facts)
    return _RiskGradient(v, **facts)


def _watched(parts: Iterator[tuple[Any, int]], total: int, progress: Progress) -> Iterator[tuple[Any, int]]:
    for done, part in enumerate(parts):
        progress.update(done, total, doing="gradient of the risk")
        yield part


@contextlib.contextmanager
def _solver_faults(solver: str) -> Iterator[None]:
    """Say which keys a solver's complaint is about."""
    try:
        yield
    except ScoringError as error:
        keys = ", ".join(f"influence.{key}" for key in _REMEDIES[solver])
        raise UserError(
            f"influence.solver {solver}: {error}.",
            f"Change what it names ({keys}), or influence.solver, and recompute by "
            "`dealrec run CONFIG --from influence`.",
        ) from error


def solver_settings(
    section: InfluenceConfig, solver: SolverName | None = None, damping: float | None = None
) -> SolverSettings:
    """The configured solver, or another one, or another damping, with the configured tolerances."""
    configured = SolverSettings(**section.model_dump(include={field.name for field in fields(SolverSettings)}))
    return replace(
        configured,
        solver=configured.solver if solver is None else solver,
        damping=configured.damping if damping is None else damping,
    )


def check_scores(
    section: InfluenceConfig, solution: Mapping[str, Any], records: Sequence[ShardRecord]
) -> dict[str, Any]:
    """Counts, the share of scores that are not finite, and the identity mean I = ⟨v, h⟩.

    Raises `UserError` above the allowed share, and `ArithmeticError` when the identity fails.
    """
    rows = sum(record.rows for record in records)
    nonfinite = sum(record.facts["nonfinite"] for record in records)
    if nonfinite > section.max_nonfinite * rows:
        raise UserError(
            f"{nonfinite} of {rows} influence scores are not finite (influence.max_nonfinite allows "
            f"{section.max_nonfinite:.2%}).",
            "Lower surrogate.lr or raise influence.damping, and recompute by `dealrec run CONFIG --from surrogate`.",
        )
    finite = max(1, rows - nonfinite)
    mean = sum(record.facts["sum"] for record in records) / finite
    rms = (sum(record.facts["squares"] for record in records) / finite) ** 0.5
    facts = {
        "rows": rows,
        "nonfinite": nonfinite,
        "mean": mean,
        "rms": rms,
        "shards": [{"index": r.index, "rows": r.rows, "digest": r.digest, "attempt": r.attempt} for r in records],
    }
    if solution["target"] == "train" and not nonfinite:
        facts["identity_error"] = abs(mean - solution["v_dot_h"]) / rms if rms else 0.0
        if facts["identity_error"] > _IDENTITY_TOLERANCE:
            raise ArithmeticError(f"the mean influence {mean:.6e} is not <v, h> = {solution['v_dot_h']:.6e}")
    return facts
