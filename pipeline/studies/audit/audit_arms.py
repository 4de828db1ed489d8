"""What an audit compares: ways to score, and sets of samples to train without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.engine.config import AuditConfig, InfluenceConfig
from pipeline.stages.influence_solve import solver_settings
from scoring.ids import draw_order
from scoring.solver_settings import SolverSettings

CONTROLS = ("random", "loss", "gradient norm", "released")
_UNDAMPED = ("none", "lissa")


@dataclass(frozen=True)
class ScoreSpec:
    """One way to score the samples.

    Attributes
    ----------
    method : an influence solver, or one of `CONTROLS`.
    scope : the name of one of the surrogate's scopes, or a pattern; None for controls.
    settings : the settings of the solver; None for controls.
    """

    method: str
    scope: str | None = None
    settings: SolverSettings | None = None

    @property
    def damping(self) -> float | None:
        return self.settings.damping if self.settings and self.method not in _UNDAMPED else None

    @property
    def family(self) -> tuple[str, str | None]:
        """Return what a spec shares with those that differ only in damping."""
        return self.method, self.scope

    @property
    def label(self) -> str:
        parts = [self.method, self.scope, None if self.damping is None else f"{self.damping:g}"]
        return "/".join(part for part in parts if part)


@dataclass(frozen=True)
class AuditArm:
    """One retrained surrogate, by the samples that it is trained without.

    Attributes
    ----------
    kind : `whole` (all samples), `random` (a share drawn by hash), or `top` and `bottom` of a score.
    share : the share of the samples that is left out.
    seed : the seed of a random draw.
    score : the label of the ranking score.
    """

    kind: str
    share: float = 0.0
    seed: int = 0
    score: str | None = None

    def removed(
        self, sample_id: npt.NDArray[np.int64], scores: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.bool_]:
        """Return bool [N]: the samples to leave out; ties and random draws are decided by a hash of the sample id."""
        mask = np.zeros(len(sample_id), dtype=np.bool_)
        count = max(1, round(self.share * len(sample_id))) if self.share else 0
        keys = draw_order(sample_id, self.seed)
        if self.kind in ("top", "bottom"):
            assert scores is not None
            order = np.lexsort((keys, -scores if self.kind == "top" else scores))
        else:
            order = np.argsort(keys, kind="stable")
        mask[order[:count]] = True
        return mask


def score_specs(audit: AuditConfig, influence: InfluenceConfig, scopes: Sequence[str]) -> list[ScoreSpec]:
    """Return every solver with every scope and, if it has one, every damping; then the controls."""
    specs = []
    for solver in audit.solvers:
        for scope in scopes:
            dampings = audit.dampings[:1] if solver in _UNDAMPED else audit.dampings
            specs += [ScoreSpec(solver, scope, solver_settings(influence, solver, damping)) for damping in dampings]
    return [*specs, *(ScoreSpec(control) for control in CONTROLS)]


def score_groups(specs: Sequence[ScoreSpec]) -> list[list[ScoreSpec]]:
    """Group the specs that share their passes over the samples: all solvers of a scope; each control alone."""
    groups: dict[str, list[ScoreSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.scope or spec.label, []).append(spec)
    return list(groups.values())


def subset_arms(audit: AuditConfig) -> list[AuditArm]:
    """Return the arms behind the linear datamodeling score, after the one that removes nothing."""
    return [AuditArm("whole"), *(AuditArm("random", audit.removed, seed) for seed in seeds(audit, audit.subsets))]


def removal_arms(audit: AuditConfig, labels: list[str]) -> list[AuditArm]:
    """Return arms without the top and the bottom of each score, and without random shares of the same size."""
    ranked = [AuditArm(kind, audit.extreme, score=label) for label in labels for kind in ("top", "bottom")]
    return [*(AuditArm("random", audit.extreme, seed) for seed in seeds(audit, audit.draws)), *ranked]


def seeds(audit: AuditConfig, count: int) -> range:
    """Return seeds for hash draws that differ from those that selection uses."""
    start = 1_000_003 * (audit.seed + 1)
    return range(start, start + count)
